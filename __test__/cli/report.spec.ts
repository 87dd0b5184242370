import { access, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { writeRun } from '../report/fixture.js'
import { inProcess, temporaryFolder } from './spawn.js'

interface Printed {
  report: string
  runs: { run_dir: string; algorithm: string; return: string }[]
}

const printed = (stdout: string): Printed => JSON.parse(stdout) as Printed

/** Two runs whose numbers cannot be confused. */
async function twoRuns(): Promise<[first: string, second: string]> {
  const folder = await temporaryFolder()
  return [
    await writeRun(join(folder, 'first'), { algorithm: 'bc', returns: [100, 0] }),
    await writeRun(join(folder, 'second'), { returns: [300, 0] }),
  ]
}

test('report of one run: its row, and the page in its folder', async (t) => {
  const [run] = await twoRuns()
  const { status, stdout, stderr } = await inProcess('report', run, '--json')
  t.is(status, 0, stderr)
  const { report, runs } = printed(stdout)
  t.is(report, join(run, RUN_FILES.report))
  t.deepEqual(
    runs.map(({ run_dir, return: mean }) => [run_dir, mean.slice(0, 5)]),
    [[run, '100.0']],
  )
  t.regex(await readFile(report, 'utf8'), /^<!doctype html>[^]*<\/html>\s*$/)
})

test('report of several runs: a row each, in the order given, on one page', async (t) => {
  const [first, second] = await twoRuns()
  const out = join(await temporaryFolder(), 'new', 'both.html')
  const { status, stdout, stderr } = await inProcess('report', second, first, second, '--out', out, '--json')
  t.is(status, 0, stderr)
  const { report, runs } = printed(stdout)
  t.is(report, out)
  t.deepEqual(
    runs.map((run) => [run.run_dir, run.algorithm, run.return.slice(0, 5)]),
    [
      [second, 'DRCORL', '300.0'],
      [first, 'BC', '100.0'],
      [second, 'DRCORL', '300.0'],
    ],
  )
  const rows = [...(await readFile(out, 'utf8')).matchAll(/<tr><th scope="row">(\w+)<\/th><td>(\d+)/g)]
  t.deepEqual(
    rows.map(([, algorithm, mean]) => [algorithm, mean]),
    [
      ['DRCORL', '300'],
      ['BC', '100'],
      ['DRCORL', '300'],
    ],
  )
  for (const run of [first, second]) await t.throwsAsync(access(join(run, RUN_FILES.report)), undefined, 'untouched')
})

test.serial('several runs without --out: a new file in the current folder, which replaces none', async (t) => {
  const [first, second] = await twoRuns()
  const here = process.cwd()
  process.chdir(await temporaryFolder())
  t.teardown(() => process.chdir(here))
  const { status, stdout, stderr } = await inProcess('report', first, second, '--json')
  t.is(status, 0, stderr)
  t.is(printed(stdout).report, 'comparison.html')
  await writeFile('comparison.html', 'mine')
  const again = await inProcess('report', first, second)
  t.is(again.status, 2)
  t.regex(again.stderr, /comparison\.html is there already\n.*--out FILE/)
  t.is(await readFile('comparison.html', 'utf8'), 'mine')
  for (const run of [first, second]) await t.throwsAsync(access(join(run, RUN_FILES.report)), undefined, 'untouched')
})

test('escape sequences in what a run says reach no terminal', async (t) => {
  const [run] = await twoRuns()
  for (const name of [RUN_FILES.config, RUN_FILES.result]) {
    const content = JSON.parse(await readFile(join(run, name), 'utf8')) as Record<string, unknown>
    await writeFile(join(run, name), JSON.stringify({ ...content, algorithm: 'bc\u001b[2J\u001b]0;x\u0007' }))
  }
  const { stdout } = await inProcess('report', run)
  t.true(stdout.includes('bc\\x1b[2J\\x1b]0;x\\x07'), stdout)
  t.notRegex(stdout.replaceAll(/\p{Cc}\[[0-9;]*m/gu, ''), /[^\P{Cc}\n]/u)
})

test('of an option given twice the last counts', async (t) => {
  const [run] = await twoRuns()
  const folder = await temporaryFolder()
  const [unused, used] = [join(folder, 'a.html'), join(folder, 'b.html')]
  const { stdout } = await inProcess('report', run, '--out', unused, '--out', used, '--json')
  t.is(printed(stdout).report, used)
  await t.throwsAsync(access(unused))
})

test('a folder of no run is bad input, and nothing is written', async (t) => {
  const [run] = await twoRuns()
  const out = join(await temporaryFolder(), 'page.html')
  const { status, stderr } = await inProcess('report', run, '/nowhere', '--out', out)
  t.is(status, 2)
  t.regex(stderr, /\/nowhere is not a run folder/)
  await t.throwsAsync(access(out))
})
