/** The codes of native errors: TypeScript keeps those that Rust gives, and no others. */
import { readFile, readdir } from 'node:fs/promises'
import test from 'ava'
import { NATIVE_CODES, toDrcorlError } from '../../src/base/errors.js'

/** Codes of the arms of `fn code(&self)`, and those with which the addons make failures. */
function codesIn(rust: string): string[] {
  const arms = [...rust.matchAll(/fn code\(&self\) -> &'static str \{([^]*?)\n {4}\}/g)].map(([, body]) => body!)
  const words = arms.join('\n').matchAll(/=> "(\w+)"/g)
  return [...words, ...rust.matchAll(/Failure::new\(\s*"(\w+)"/g)].map(([, code]) => code!)
}

test('every code of a native error reaches the caller as it is, and none is kept that no native error has', async (t) => {
  const root = new URL('../../crates/', import.meta.url)
  const files = (await readdir(root, { recursive: true })).filter((name) => /^\w+[\\/]src[\\/].*\.rs$/.test(name))
  const texts = await Promise.all(files.map((name) => readFile(new URL(name.replaceAll('\\', '/'), root), 'utf8')))
  const given = new Set(texts.flatMap(codesIn))
  t.true(given.has('Diverged') && given.has('Busy') && given.has('Panic'), [...given].join(', '))
  t.deepEqual([...NATIVE_CODES].toSorted(), [...given].toSorted())
  for (const code of given) {
    const { code: kept, message } = toDrcorlError(Object.assign(new Error(`${code}: why`), { code }))
    t.deepEqual({ kept, message }, { kept: code, message: 'why' })
  }
  t.is(toDrcorlError(Object.assign(new Error('no'), { code: 'ENOENT' })).code, 'Internal')
})
