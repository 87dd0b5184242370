#!/usr/bin/env node
// Stands in for Python and says what the test wants: FORGED is JSON, an array with the reply to each request, the first
// unasked. A reply is [kind, body], or the hexadecimal digits of anything else; after the last one the process ends.
const replies = JSON.parse(process.env.FORGED)

function write() {
  const reply = replies.shift()
  if (reply === undefined) process.exit(0)
  if (typeof reply === 'string') return process.stdout.write(Buffer.from(reply, 'hex'))
  const [kind, text] = reply
  const body = Buffer.from(text)
  const header = Buffer.alloc(8)
  header.writeUInt32LE(body.length, 0)
  header.writeUInt32LE(kind, 4)
  return process.stdout.write(Buffer.concat([header, body]))
}

process.stdin.on('data', write)
process.stdin.on('end', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
write()
