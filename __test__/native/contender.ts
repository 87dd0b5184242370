/**
 * A process that takes a lock again and again and does what only a sole holder can do: make a file that must not be
 * there. Arguments: the lock, that file, and how often; `0` takes the lock once and is killed with it.
 * Prints how often it had to wait.
 */
import { open, rm } from 'node:fs/promises'
import { setImmediate as yieldNow } from 'node:timers/promises'
import { codeOf } from '../../src/base/errors.js'
import { lock } from '../../src/native/lock.js'

const [path = '', alone = '', rounds = ''] = process.argv.slice(2)
let refused = 0

async function take(): Promise<() => void> {
  for (;;) {
    try {
      return await lock(path, 'contending')
    } catch (error) {
      if (codeOf(error) !== 'Busy') throw error
      refused += 1
      await yieldNow()
    }
  }
}

if (rounds === '0') {
  await take()
  process.kill(process.pid, 'SIGKILL')
}
for (let round = 0; round < Number(rounds); round += 1) {
  const unlock = await take()
  await (await open(alone, 'wx')).close()
  await yieldNow()
  await rm(alone)
  unlock()
}
process.stdout.write(`${refused}\n`)
