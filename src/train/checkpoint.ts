/** What a checkpoint says of itself, read without the core: the core reads the rest. */
import { open, stat } from 'node:fs/promises'

/** A safetensors file begins with the length of its header in 8 bytes; the format allows no longer header. */
const PREFIX = 8
const LONGEST_HEADER = 100_000_000

const FILE_METADATA = '__metadata__'

/** Key of the core's own metadata. */
const METADATA_KEY = 'drcorl'

/** All parameters, resolved, of the trainer that wrote a checkpoint. */
export interface CheckpointConfig {
  algorithm: unknown
  run: Record<string, unknown>
  config: Record<string, unknown>
}

/**
 * Reads the parameters in the header of a checkpoint.
 *
 * @returns undefined for a file that is none: the core refuses it, and says why.
 */
export async function readCheckpointConfig(path: string): Promise<CheckpointConfig | undefined> {
  try {
    const header = JSON.parse(await readHeader(path)) as Record<string, Record<string, string>>
    const { config } = JSON.parse(header[FILE_METADATA]![METADATA_KEY]!) as { config: CheckpointConfig }
    const { algorithm, run, config: own } = config
    return { algorithm, run: { ...run }, config: { ...own } }
  } catch {
    return undefined
  }
}

/** Something that one optimiser moves: a network, or an ensemble as one. */
export interface TrainedNetwork {
  /** As the checkpoint calls it. */
  name: string
  parameters: number
}

/** Every flat vector of the algorithm with moments of Adam beside it; the models around the algorithm are left out. */
const MOMENTS = /^algorithm\.(.+?)\.adam\.first_moment$/

/** What the algorithm of a checkpoint trains; none for a file that is no checkpoint. */
export async function readTrainedNetworks(path: string): Promise<TrainedNetwork[]> {
  try {
    const header = JSON.parse(await readHeader(path)) as Record<string, { shape?: number[] }>
    return Object.entries(header).flatMap(([key, { shape = [] }]) => {
      const name = MOMENTS.exec(key)?.[1]?.replace(/\.head$/, '')
      return name === undefined ? [] : [{ name, parameters: shape.reduce((size, length) => size * length, 1) }]
    })
  } catch {
    return []
  }
}

async function readHeader(path: string): Promise<string> {
  // Opening a pipe waits until someone writes into it.
  if (!(await stat(path)).isFile()) throw new Error('no regular file')
  const file = await open(path)
  try {
    const { buffer } = await file.read(Buffer.alloc(PREFIX), 0, PREFIX, 0)
    const length = Number(buffer.readBigUInt64LE())
    if (length > LONGEST_HEADER) throw new Error(`a header of ${length} bytes`)
    return (await file.read(Buffer.alloc(length), 0, length, PREFIX)).buffer.toString('utf8')
  } finally {
    await file.close()
  }
}
