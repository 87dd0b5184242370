/** Some damaged files of every kind; `npm run mutants` tries thousands. */
import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { NAMES } from '../fuzz/names.mjs'
import { Draws, mutateBytes, mutateJson, mutateTable } from '../fuzz/mutate.js'
import { TARGETS } from '../fuzz/targets.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

test('every target has a name and a place in the order', (t) => {
  t.deepEqual([...NAMES].toSorted(), Object.keys(TARGETS).toSorted())
})

test('targets of cargo-fuzz are declared, written, and told about', async (t) => {
  const declared = [
    ...(await readFile(`${ROOT}fuzz/Cargo.toml`, 'utf8')).matchAll(/^path = "fuzz_targets\/(\w+)\.rs"$/gm),
  ]
  const names = declared.map(([, name]) => name!)
  t.deepEqual(
    names.toSorted().map((name) => `${name}.rs`),
    (await readdir(`${ROOT}fuzz/fuzz_targets`)).toSorted(),
  )
  const page = await readFile(`${ROOT}docs/reliability.md`, 'utf8')
  for (const name of names.filter((name) => name !== 'lib')) {
    t.true(page.includes(`\`${name}\``), name)
    t.true((await readFile(`${ROOT}fuzz/fuzz_targets/${name}.rs`, 'utf8')).includes('fuzz_target!'), name)
    t.true(NAMES.includes(name), `${name} is a target of npm run fuzz too`)
  }
})

test('the same seed makes the same damage, and damage it is', (t) => {
  const original = Buffer.from('{"a": [1, 2, {"b": "text"}], "c": null}')
  const three = (seed: number): string[] => {
    const draws = new Draws(seed)
    const text = original.toString()
    const tried = [mutateBytes(original, draws), mutateTable(text, draws), Buffer.from(mutateJson(text, draws))]
    return tried.map((bytes) => Buffer.from(bytes).toString('hex'))
  }
  t.deepEqual(three(7), three(7))
  const all = Array.from({ length: 100 }, (_, seed) => three(seed)).flat()
  t.true(new Set(all).size > 200)
})

for (const name of NAMES) {
  test.serial(`damaged ${name} is refused with a code, or taken and consistent`, async (t) => {
    const words = ['fuzz/run.mjs', '--json', '--count', '12', '--target', name]
    const { stdout } = await promisify(execFile)(process.execPath, words, { cwd: ROOT }).catch((error: unknown) => {
      return error as { stdout: string }
    })
    const { results, faults } = JSON.parse(stdout) as {
      results: { counts: Record<string, number> }[]
      faults: unknown[]
    }
    t.deepEqual(faults, [])
    const { refused = 0, accepted = 0 } = results[0]!.counts
    t.is(refused + accepted, 12)
    t.true(refused > 0)
  })
}
