// A policy file with drawn weights, as the core writes it: the measured calls need its sizes, not its wisdom.
import { writeFileSync } from 'node:fs'

/** A linear congruential generator: the same weights in every run. */
function draws(seed) {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  }
}

/**
 * Writes a policy of the given layer widths to `path`; needs dist.
 * @param {string} path
 * @param {number[]} widths observation entries, hidden widths, action entries
 */
export async function writePolicy(path, widths) {
  const { writeSafetensors } = await import('../dist/policy/safetensors.js')
  const draw = draws(7)
  const [obs_dim, act_dim] = [widths[0], widths[widths.length - 1]]
  const vector = (size, value) => ({ shape: [size], values: new Float32Array(size).fill(value) })
  const tensors = new Map([
    ...widths.slice(1).flatMap((out, i) => {
      const bound = 1 / Math.sqrt(widths[i])
      const values = (count) => Float32Array.from({ length: count }, () => draw() * bound)
      return [
        [`actor.${i}.weight`, { shape: [out, widths[i]], values: values(out * widths[i]) }],
        [`actor.${i}.bias`, { shape: [out], values: values(out) }],
      ]
    }),
    ['observation.mean', vector(obs_dim, 0)],
    ['observation.std', vector(obs_dim, 1)],
    ['action.low', vector(act_dim, -1)],
    ['action.high', vector(act_dim, 1)],
  ])
  const metadata = new Map([
    ['format', 'drcorl-policy/1'],
    ['hidden_activation', 'relu'],
    ['output_activation', 'tanh'],
    ['algorithm', 'none'],
    ['name', 'benchmark'],
    ['created_by', 'bench/policy.mjs'],
  ])
  writeFileSync(path, writeSafetensors({ metadata, tensors }))
}
