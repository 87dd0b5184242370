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

const vector = (size, value) => ({ shape: [size], values: new Float32Array(size).fill(value) })

/** Normaliser and box that change nothing. */
const frame = (obs_dim, act_dim) => [
  ['observation.mean', vector(obs_dim, 0)],
  ['observation.std', vector(obs_dim, 1)],
  ['action.low', vector(act_dim, -1)],
  ['action.high', vector(act_dim, 1)],
]

/**
 * Writes a policy of kind `diffusion` to `path`, with the sizes of FISOR: 5 levels, 3 blocks of 256 with 1024 inside,
 * 16 candidates, critics of two layers of 256; needs dist.
 * @param {string} path
 * @param {number} obs_dim
 * @param {number} act_dim
 */
export async function writeDiffusion(path, obs_dim, act_dim) {
  const { writeSafetensors } = await import('../dist/policy/safetensors.js')
  const draw = draws(7)
  const [width, inside, embedding, levels] = [256, 1024, 128, 5]
  const tensors = new Map(frame(obs_dim, act_dim))
  const layer = (name, inputs, outputs) => {
    const values = (count) => Float32Array.from({ length: count }, () => draw() / Math.sqrt(inputs))
    tensors.set(`${name}.weight`, { shape: [outputs, inputs], values: values(inputs * outputs) })
    tensors.set(`${name}.bias`, { shape: [outputs], values: values(outputs) })
  }
  tensors.set('level.beta', { shape: [levels], values: Float32Array.of(0.1959, 0.4588, 0.6358, 0.7549, 0.835) })
  tensors.set('level.embedding', {
    shape: [levels, embedding],
    values: Float32Array.from({ length: levels * embedding }, draw),
  })
  layer('input', obs_dim + act_dim + embedding, width)
  for (let block = 0; block < 3; block += 1) {
    tensors.set(`blocks.${block}.norm.weight`, vector(width, 1))
    tensors.set(`blocks.${block}.norm.bias`, vector(width, 0))
    layer(`blocks.${block}.inner`, width, inside)
    layer(`blocks.${block}.outer`, inside, width)
  }
  layer('output', width, act_dim)
  for (const critic of ['reward_critic', 'feasibility_critic']) {
    for (const member of [0, 1]) {
      const widths = [obs_dim + act_dim, 256, 256, 1]
      for (const [index, outputs] of widths.slice(1).entries())
        layer(`${critic}.${member}.${index}`, widths[index], outputs)
    }
  }
  const metadata = new Map(
    Object.entries({
      format: 'drcorl-policy/1',
      kind: 'diffusion',
      blocks: '3',
      norm_eps: '0.000001',
      noise_temperature: '1',
      clip_levels: 'true',
      candidates: '16',
      choice: 'safest',
      threshold: '0',
      seed: '0',
      algorithm: 'none',
      name: 'benchmark',
      created_by: 'bench/policy.mjs',
    }),
  )
  writeFileSync(path, writeSafetensors({ metadata, tensors }))
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
  const tensors = new Map([
    ...widths.slice(1).flatMap((out, i) => {
      const bound = 1 / Math.sqrt(widths[i])
      const values = (count) => Float32Array.from({ length: count }, () => draw() * bound)
      return [
        [`actor.${i}.weight`, { shape: [out, widths[i]], values: values(out * widths[i]) }],
        [`actor.${i}.bias`, { shape: [out], values: values(out) }],
      ]
    }),
    ...frame(obs_dim, act_dim),
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
