/**
 * Tries inputs one after the other, and says of each what became of it. The parent ends it where it hangs or swells.
 */
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DrcorlError } from '../src/index.js'
import { Draws } from './mutate.js'
import { TARGETS } from './targets.js'

export type Outcome = 'refused' | 'accepted' | 'inconsistent' | 'panic'

export interface Asked {
  index: number
  seed: number
}

export interface Tried extends Asked {
  outcome: Outcome
  detail: string
}

const [name = '', keep = ''] = process.argv.slice(2)
const target = TARGETS[name]!
const folder = await mkdtemp(join(tmpdir(), 'drcorl-fuzz-'))
await mkdir(keep, { recursive: true })
const seeds = await target.seeds(folder)
for (const seed of seeds) {
  const wrong = await target.attempt(seed, seed.bytes, folder).catch((error: unknown) => String(error))
  // The bridge's last frame is a failure, and a failure is what comes of it.
  if (wrong !== undefined && name !== 'bridge') throw new Error(`${name}: the undamaged ${seed.name}: ${wrong}`)
}

/** Codes that name a fault of drcorl's own. */
const FAULTS = new Set(['Internal', 'Panic', 'Torch'])

async function attempt({ index, seed: state }: Asked): Promise<Tried> {
  const draws = new Draws(Math.imul(state, 0x9e3779b1) + index)
  const seed = draws.of(seeds)
  const input = target.mutate(seed, draws)
  // Of whatever ends this process the input is still there.
  await writeFile(join(keep, 'last'), input)
  const tried = (outcome: Outcome, detail: string): Tried => ({
    index,
    seed: state,
    outcome,
    detail: `${seed.name}: ${detail}`,
  })
  try {
    const wrong = await target.attempt(seed, input, folder)
    return wrong === undefined ? tried('accepted', '') : tried('inconsistent', wrong)
  } catch (error) {
    if (error instanceof DrcorlError && !FAULTS.has(error.code)) return tried('refused', error.code)
    return tried('panic', error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
}

process.on('message', (asked: Asked) => void attempt(asked).then((tried) => process.send!(tried)))
process.send!({ ready: true })
