import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { datasetFromColumns, type NativeColumns } from '../../src/native/dataset.js'
import { writeDatasetFile } from '../../src/native/operation.js'
import { testIf } from '../test-if.js'

const root = await mkdtemp(join(tmpdir(), 'drcorl-memory-'))
const TRAINEE = fileURLToPath(new URL('trainee.ts', import.meta.url))

/** Episodes of 100 steps, 28 entries of observation and 2 of action: 60 numbers a row. */
async function write(path: string, rows: number): Promise<number> {
  const [obs_dim, act_dim] = [28, 2]
  const values = (length: number, step: number): Float32Array =>
    Float32Array.from({ length }, (_, i) => Math.sin(step * i))
  const columns: NativeColumns = {
    obs_dim,
    act_dim,
    observations: values(rows * obs_dim, 1),
    next_observations: values(rows * obs_dim, 1.1),
    actions: values(rows * act_dim, 1.2),
    rewards: values(rows, 1.3),
    costs: Float32Array.from({ length: rows }, (_, row) => (row % 9 === 0 ? 1 : 0)),
    terminals: new Uint8Array(rows),
    timeouts: Uint8Array.from({ length: rows }, (_, row) => (row % 100 === 99 ? 1 : 0)),
    source: 'synthetic',
  }
  await writeDatasetFile(await datasetFromColumns(columns), path, {})
  return rows * ((2 * obs_dim + act_dim + 2) * 4 + 2)
}

/** The most bytes that training on a file of so many rows takes. */
async function peak(rows: number): Promise<{ peak: number; columns: number }> {
  const path = join(root, `${rows}.hdf5`)
  const columns = await write(path, rows)
  const node = [`--import=${import.meta.resolve('@oxc-node/core/register')}`, TRAINEE, path, join(root, `run-${rows}`)]
  const { stdout } = await promisify(execFile)(process.execPath, node)
  await rm(path)
  return { peak: Number(stdout), columns }
}

/** Of the columns' bytes, as docs/data.md states it. */
const STATED = 2.8

testIf(process.platform === 'linux', 'the memory of this system is counted otherwise')(
  'training takes no more memory than stated, as a multiple of the columns',
  async (t) => {
    const [small, large] = [await peak(2_000), await peak(400_000)]
    const ratio = (large.peak - small.peak) / (large.columns - small.columns)
    t.log(`${(large.columns / 1e6).toFixed(0)} MB of columns: ${ratio.toFixed(2)} times that`)
    t.true(ratio <= STATED, `${ratio} times the columns`)
    t.true(ratio > 1, 'less than the table cannot be measured')
  },
)
