// Fills in sizes and checksums of the official libtorch archives: downloads each one that has none. A step of a release, as
// it takes several GB; `drcorl torch install` refuses an archive whose entry is empty. With --check nothing is downloaded: every
// address must answer, with the size that the entry states.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { fail, ROOT, StepError } from './lib/run.mjs'
import { replaceFile } from './lib/stamp.mjs'

const FILE = join(ROOT, 'src/native/libtorch-manifest.json')

async function request(url, method) {
  const response = await fetch(url, { method }).catch((error) => {
    throw new StepError(`${url}: ${error.cause?.message ?? error.message}`)
  })
  if (!response.ok) throw new StepError(`${url} answers ${response.status}`)
  return response
}

async function check({ url, bytes, sha256 }) {
  const { headers } = await request(url, 'HEAD')
  const size = Number(headers.get('content-length'))
  if (bytes === null || sha256 === null) throw new StepError(`${url}: the manifest holds no size and checksum`)
  if (size !== bytes) throw new StepError(`${url}: ${size} bytes, the manifest says ${bytes}`)
  console.log(`${url}: ${bytes} bytes`)
}

async function measure(archive) {
  if (archive.bytes !== null && archive.sha256 !== null) return
  const { body } = await request(archive.url, 'GET')
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of body) {
    hash.update(chunk)
    bytes += chunk.length
  }
  Object.assign(archive, { bytes, sha256: hash.digest('hex') })
  console.log(`${archive.url}: ${bytes} bytes, sha256 ${archive.sha256}`)
}

async function main() {
  const { values } = parseArgs({
    options: { check: { type: 'boolean', default: false }, file: { type: 'string', default: FILE } },
  })
  const manifest = JSON.parse(readFileSync(values.file, 'utf8'))
  for (const archive of Object.values(manifest.archives).flatMap(Object.values)) {
    await (values.check ? check : measure)(archive)
  }
  if (!values.check) replaceFile(values.file, `${JSON.stringify(manifest, null, 2)}\n`)
}

main().catch(fail)
