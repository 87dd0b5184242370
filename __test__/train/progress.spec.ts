import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { Metric } from '../../src/config/results.js'
import type { ProgressEvent } from '../../src/train/events.js'
import { MetricsLog, MetricsMean } from '../../src/train/metrics.js'
import { Pace } from '../../src/train/pace.js'
import { Progress, type Reading, formatSeconds, progressLine } from '../../src/train/progress.js'

const EVENT: ProgressEvent = {
  type: 'progress',
  phase: 'critics',
  phase_step: 50,
  phase_steps: 200,
  step: 150,
  steps: 600,
  steps_per_second: 412.3,
  eta_seconds: 80,
  metrics: { q_loss: 0.12345, lr: 0.001, objective: 2e-7, danger: 8.216, nan_loss: null },
}

const metric = (name: string, role: Metric['role']): Metric => ({ name, role, unit: '1', meaning: 'Something.' })

const READING: Reading = {
  cost_limit: 10,
  metrics: [
    metric('nan_loss', 'loss'),
    metric('q_loss', 'loss'),
    metric('objective', 'loss'),
    metric('danger', 'estimate'),
    metric('lr', 'diagnostic'),
  ],
}

test('a progress line holds phase, rate, ETA, and by their roles losses and estimates against the limit', (t) => {
  t.is(
    progressLine(EVENT, false, READING),
    'critics     50/200  25 %  412 steps/s  ETA 1m 20s  q_loss 0.123  objective 2.0e-7  danger 8.22 (limit 10)',
  )
  t.regex(progressLine(EVENT, true, READING), /\[#####-{15}\]/)
})

test('times read like times', (t) => {
  t.deepEqual([0.4, 61, 3600, 90_000, null].map(formatSeconds), ['0s', '1m 1s', '1h 0m', '1d 1h', '?'])
})

test('a terminal gets one line rewritten in place; a file gets a line every few seconds and at the end of a phase', (t) => {
  const written: string[] = []
  const stream = { write: (text: string) => written.push(text), isTTY: true, columns: 60 }
  const terminal = new Progress(stream)
  terminal.show(EVENT)
  terminal.show({ ...EVENT, phase: 'adapt' })
  t.true(written.every((text) => !text.includes('\n') || text === '\n'))
  // Carriage return and erase come before the text itself.
  t.true(written.every((text) => text.length <= 60 + '\r\u001b[2K'.length))
  t.is(written.filter((text) => text === '\n').length, 1)
  terminal.close()
  terminal.close()
  t.is(written.filter((text) => text === '\n').length, 2, 'an open line is ended once')

  const lines: string[] = []
  let now = 0
  const plain = new Progress({ write: (text: string) => lines.push(text) }, () => now)
  for (const step of [1, 2, 3]) plain.show({ ...EVENT, phase_step: step })
  t.is(lines.length, 1)
  now = 6
  plain.show({ ...EVENT, phase_step: 4 })
  plain.show({ ...EVENT, phase_step: 200 })
  t.is(lines.length, 3)
  t.true(lines.every((line) => line.endsWith('\n')))
})

test('pace: one step first, then towards a quarter of a second, growing by at most four', (t) => {
  const pace = new Pace()
  t.is(pace.next(0), 1)
  t.is(pace.eta(10, 10), null)
  pace.measured(1, 0.01)
  t.is(pace.eta(10, 10), null, 'one step says too little')
  t.is(pace.next(0), 4)
  pace.measured(4, 0.04)
  t.is(pace.next(0), 16)
  pace.measured(16, 0.16)
  t.is(pace.next(0), 25)
  t.is(Math.round(pace.rate), 100)
  t.is(pace.eta(100, 200)?.toFixed(6), '3.000000')
  t.is(pace.next(1), 1, 'a new phase starts carefully')
  pace.measured(1, 60)
  t.is(pace.next(1), 1, 'never less than one step')
  pace.measured(0, 1)
  t.is(pace.next(1), 1)
})

test('metrics.csv: columns stand in the declared order, whichever phase reports them first', async (t) => {
  const path = join(await mkdtemp(join(tmpdir(), 'drcorl-metrics-')), 'metrics.csv')
  const log = new MetricsLog(path, ['a_loss', 'never', 'cost', 'z'])
  log.add({ step: 1, phase: 'a', phase_step: 1, seconds: 0, metrics: { z: 1, unknown: 2 } })
  log.add({ step: 2, phase: 'b', phase_step: 1, seconds: 0, metrics: { a_loss: 3, cost: 4 } })
  await log.flush()
  t.is((await readFile(path, 'utf8')).split('\n')[0], 'step,phase,phase_step,seconds,a_loss,cost,z,unknown')
})

test('metrics.csv: columns grow with the phases, and resume cuts it at the step of the checkpoint', async (t) => {
  const path = join(await mkdtemp(join(tmpdir(), 'drcorl-metrics-')), 'metrics.csv')
  const log = new MetricsLog(path)
  log.add({ step: 1, phase: 'a', phase_step: 1, seconds: 0.5, metrics: { loss: 0.1 } })
  log.add({ step: 2, phase: 'b', phase_step: 1, seconds: 1, metrics: { q_loss: 1e-9, loss: 3 } })
  log.add({ step: 3, phase: 'b', phase_step: 2, seconds: 2, metrics: {} })
  await log.flush()
  t.is(
    await readFile(path, 'utf8'),
    'step,phase,phase_step,seconds,loss,q_loss\n1,a,1,0.500,0.1,\n2,b,1,1.000,3,1e-9\n3,b,2,2.000,,\n',
  )
  const again = await MetricsLog.resume(path, 2)
  t.is(again.seconds, 1)
  again.add({ step: 3, phase: 'b', phase_step: 2, seconds: 9, metrics: { loss: 4 } })
  await again.flush()
  t.is(
    await readFile(path, 'utf8'),
    'step,phase,phase_step,seconds,loss,q_loss\n1,a,1,0.500,0.1,\n2,b,1,1.000,3,1e-9\n3,b,2,9.000,4,\n',
  )
})

test('means over calls are weighted by steps and skip what is not finite', (t) => {
  const mean = new MetricsMean()
  mean.add({ loss: 1, q: null }, 1)
  mean.add({ loss: 4, q: 2 }, 2)
  t.deepEqual(mean.take(), { loss: 3, q: 2 })
  t.deepEqual(mean.take(), {})
})
