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
 * Writes a policy of the given layer widths to `path`.
 * @param {string} path
 * @param {number[]} widths observation entries, hidden widths, action entries
 */
export function writePolicy(path, widths) {
  const draw = draws(7)
  const [obsDim, actDim] = [widths[0], widths[widths.length - 1]]
  const tensors = [
    ...widths.slice(1).flatMap((out, i) => {
      const bound = 1 / Math.sqrt(widths[i])
      const values = (count) => Float32Array.from({ length: count }, () => draw() * bound)
      return [
        [`actor.${i}.weight`, [out, widths[i]], values(out * widths[i])],
        [`actor.${i}.bias`, [out], values(out)],
      ]
    }),
    ['observation.mean', [obsDim], new Float32Array(obsDim)],
    ['observation.std', [obsDim], new Float32Array(obsDim).fill(1)],
    ['action.low', [actDim], new Float32Array(actDim).fill(-1)],
    ['action.high', [actDim], new Float32Array(actDim).fill(1)],
  ]
  const header = {
    __metadata__: {
      format: 'drcorl-policy/1',
      hidden_activation: 'relu',
      output_activation: 'tanh',
      algorithm: 'none',
      name: 'benchmark',
      created_by: 'bench/run.mjs',
    },
  }
  let offset = 0
  for (const [name, shape, values] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, (offset += values.byteLength)] }
  }
  // Data start at a multiple of 8 bytes.
  const text = JSON.stringify(header)
  const json = Buffer.from(text.padEnd(Math.ceil(Buffer.byteLength(text) / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  writeFileSync(path, Buffer.concat([length, json, ...tensors.map(([, , values]) => Buffer.from(values.buffer))]))
}
