/** Which cells share a pretraining, who makes it and who waits. */
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { type BenchmarkOptions, type Cell, planCells } from '../../src/benchmark/plan.js'
import { Shares } from '../../src/benchmark/shares.js'
import { taskTargets } from '../../src/benchmark/targets.js'
import { RUN_FILES } from '../../src/train/run-folder.js'

const TARGETS = await taskTargets(['point-circle'])

const plan = (over: Partial<BenchmarkOptions>): Cell[] =>
  planCells({ targets: TARGETS, algorithms: ['drcorl'], seeds: [0], cost_limits: [10, 20, 40], out: 'o', ...over })

const groups = (over: Partial<BenchmarkOptions>): number[] => {
  const keys = plan(over).map(({ pretraining }) => pretraining)
  return keys.map((key) => (key === null ? -1 : keys.indexOf(key)))
}

test('limits share, and so do variants that adaptation alone reads; nothing else does', (t) => {
  t.deepEqual(groups({}), [0, 0, 0])
  t.deepEqual(groups({ seeds: [0, 1] }), [0, 1, 0, 1, 0, 1])
  t.deepEqual(groups({ algorithms: ['bc'] }), [-1, -1, -1])
  t.deepEqual(groups({ set: ['behavior_data=safe'] }), [0, 1, 2], 'the limit chooses what is learnt from')
  const vary = (name: string, values: readonly string[]): number[] =>
    groups({ cost_limits: [10], variants: values.map((value) => ({ name: value, set: [`${name}=${value}`] })) })
  t.deepEqual(vary('slack_above', ['0.1', '0.5']), [0, 0])
  t.deepEqual(vary('gamma', ['0.9', '0.95']), [0, 1])
  t.deepEqual(groups({ watch: { every: 0.1, episodes: 2 } }), [-1, -1, -1], 'what is taken over was not watched')
  t.deepEqual(groups({ set: ['gamma=7'] }), [-1, -1, -1], 'a value that its run refuses')
})

const folders = async (cells: readonly Cell[]): Promise<Cell[]> => {
  const out = await mkdtemp(join(tmpdir(), 'drcorl-shares-'))
  return cells.map((cell, index) => ({ ...cell, folder: join(out, String(index)) }))
}

const make = async ({ folder }: Cell): Promise<void> => {
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, RUN_FILES.pretraining), '')
}

const settled = async (promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([promise.then(() => true), new Promise<boolean>((resolve) => setTimeout(resolve, 20, false))])

test('the first makes it, the others start once it is there and take it', async (t) => {
  const cells = await folders(plan({ seeds: [0, 1] }))
  const shares = await Shares.of(cells, new AbortController().signal)
  t.deepEqual(await shares.next(), { cell: cells[0], reuse: null })
  t.deepEqual(await shares.next(), { cell: cells[1], reuse: null }, 'another seed makes its own')
  const third = shares.next()
  t.false(await settled(third))
  shares.pretrained(cells[1]!)
  t.deepEqual(await third, { cell: cells[3], reuse: cells[1]!.folder })
  shares.pretrained(cells[0]!)
  await shares.ended(cells[0]!, true)
  t.deepEqual(await shares.next(), { cell: cells[2], reuse: cells[0]!.folder })
  t.deepEqual(await shares.next(), { cell: cells[4], reuse: cells[0]!.folder })
  t.deepEqual(await shares.next(), { cell: cells[5], reuse: cells[1]!.folder })
  t.is(await shares.next(), undefined)
})

test('where the first fails before, the next makes it', async (t) => {
  const cells = await folders(plan({}))
  const shares = await Shares.of(cells, new AbortController().signal)
  await shares.next()
  const second = shares.next()
  const third = shares.next()
  await shares.ended(cells[0]!, false)
  t.deepEqual(await second, { cell: cells[1], reuse: null })
  t.false(await settled(third))
  await make(cells[1]!)
  await shares.ended(cells[1]!, true)
  t.deepEqual(await third, { cell: cells[2], reuse: cells[1]!.folder })
})

test('one that is there from an earlier command comes first', async (t) => {
  const cells = await folders(plan({}))
  await make(cells[2]!)
  const shares = await Shares.of(cells, new AbortController().signal)
  t.deepEqual(await shares.next(), { cell: cells[2], reuse: null })
  await shares.ended(cells[2]!, true)
  t.deepEqual(await shares.next(), { cell: cells[0], reuse: cells[2]!.folder })
})

test('a signal lets go of who waits', async (t) => {
  const controller = new AbortController()
  const shares = await Shares.of(await folders(plan({})), controller.signal)
  await shares.next()
  const second = shares.next()
  controller.abort()
  t.is(await second, undefined)
})
