import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { NativeTrainer as Trainer } from '../../index.d.ts'
import { loadCore } from '../../src/native/addons.js'
import { columns } from './columns.js'

const folder = mkdtempSync(join(tmpdir(), 'drcorl-core-'))
const { NativeTrainer, NativeTrainingData } = await loadCore()

function newTrainer(config: Record<string, unknown> = {}): Promise<Trainer> {
  const dataset = NativeTrainingData.fromColumns(columns())
  return NativeTrainer.create(dataset, JSON.stringify({ algorithm: 'drcorl', run: {}, config }))
}

const codeOf = (error: unknown) => (error as { code?: string }).code

test('a wrong configuration is refused by name', async (t) => {
  const error = await t.throwsAsync(newTrainer({ nonsense: 1 }))
  t.is(codeOf(error), 'Config')
  t.regex(error.message, /nonsense/)
})

test('while a run is under way the event loop is free and every other call is Busy', async (t) => {
  const trainer = await newTrainer()
  const run = trainer.run(1e9)
  t.is(codeOf(t.throws(() => trainer.status())), 'Busy')
  t.is(codeOf(t.throws(() => trainer.certificate())), 'Busy')
  t.is(codeOf(t.throws(() => trainer.dispose())), 'Busy')
  t.is(codeOf(await t.throwsAsync(trainer.run(1))), 'Busy')
  t.is(codeOf(await t.throwsAsync(trainer.save(join(folder, 'busy.safetensors')))), 'Busy')

  // Only a timer that ticks during the run can end it: a blocked event loop would never come to cancel().
  let ticks = 0
  const timer = setInterval(() => {
    ticks += 1
    if (ticks === 10) trainer.cancel()
  }, 5)
  const report = JSON.parse(await run) as { cancelled: boolean; step: number }
  clearInterval(timer)
  t.true(report.cancelled)
  t.true(ticks >= 10)
  t.is((JSON.parse(trainer.status()) as { step: number }).step, report.step)
  trainer.dispose()
})

test('cancel stays until a run has seen it, and stops that run only', async (t) => {
  const trainer = await newTrainer()
  trainer.cancel()
  const first = JSON.parse(await trainer.run(5)) as { cancelled: boolean; step: number }
  t.like(first, { cancelled: true, step: 0 })
  const second = JSON.parse(await trainer.run(2)) as { cancelled: boolean; step: number }
  t.like(second, { cancelled: false, step: 2 })
  trainer.dispose()
})

test('a number of steps that is none is refused', async (t) => {
  const trainer = await newTrainer()
  for (const steps of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    const error = await t.throwsAsync(trainer.run(steps))
    t.is(codeOf(error), 'Config')
    t.regex(error.message, /steps/)
  }
})

test('a trainer can be disposed of twice and used no more', async (t) => {
  const trainer = await newTrainer()
  trainer.dispose()
  trainer.dispose()
  t.is(codeOf(t.throws(() => trainer.status())), 'Config')
  t.is(codeOf(await t.throwsAsync(trainer.run(1))), 'Config')
})

test('columns that disagree are refused by name, here too', (t) => {
  const error = t.throws(() => NativeTrainingData.fromColumns({ ...columns(), rewards: new Float32Array(3) }))
  t.is(codeOf(error), 'Data')
  t.regex(error.message, /made in the test.*rewards/)
})
