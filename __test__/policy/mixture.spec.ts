/** Mixtures: the addon and JavaScript draw the same member for an episode, by its weight, and play it to its end. */
import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { exportPolicy } from '../../src/export/export.js'
import { loadPolicy as loadInBrowser } from '../../src/policy/browser.js'
import { loadPolicy } from '../../src/policy/node.js'
import type { LoadedPolicy } from '../../src/policy/policy.js'
import { type Safetensors, writeSafetensors } from '../../src/policy/safetensors.js'
import { type PolicyOptions, drawObservations, drawPolicy, largestDifference } from './files.js'

const WEIGHTS = [0.5, 0.125, 0.375]
const ROWS = 60

const folder = await mkdtemp(join(tmpdir(), 'drcorl-mixture-'))

/** Policies of one shape as members, all other fields those of the first. */
function mixtureOf(options: PolicyOptions): Safetensors {
  const members = WEIGHTS.map((_, k) => drawPolicy({ ...options, seed: k + 1 }))
  const { metadata, tensors } = members[0]!
  const own = /^(actor\.\d|deviation)/
  const mixed = new Map([...tensors].filter(([name]) => !own.test(name)))
  members.forEach((member, k) => {
    for (const [name, tensor] of member.tensors) if (own.test(name)) mixed.set(`member.${k}.${name}`, tensor)
  })
  mixed.set('weights', { shape: [WEIGHTS.length], values: Float32Array.from(WEIGHTS) })
  const kind = metadata.get('kind')!
  return { metadata: new Map([...metadata, ['kind', 'mixture'], ['member_kind', kind], ['seed', '5']]), tensors: mixed }
}

async function written(name: string, content: Safetensors): Promise<string> {
  const path = join(folder, `${name}.safetensors`)
  await writeFile(path, writeSafetensors(content))
  return path
}

const rows = Array.from({ length: ROWS }, (_, row) => row)

test('addon and JavaScript play the same member of the same episode', async (t) => {
  for (const spread of [undefined, 'constant', 'learnt'] as const) {
    const content = mixtureOf({ widths: [7, 20, 3], spread })
    const path = await written(`${spread}`, content)
    const native = await loadPolicy(path, {}, { runtime: 'native' })
    const javascript = await loadPolicy(path, {}, { runtime: 'javascript' })
    const inBrowser = await loadInBrowser(writeSafetensors(content))
    t.deepEqual([native.runtime, javascript.runtime, inBrowser.runtime], ['native', 'javascript', 'javascript'])
    t.deepEqual(javascript.settings, native.settings)
    const policies: LoadedPolicy[] = [native, javascript, inBrowser]
    for (const seeds of [undefined, rows.map((row) => 3 + row), rows.map((row) => 1e12 + row)]) {
      for (const policy of policies) policy.reset(rows, seeds)
      for (let step = 0; step < 3; step += 1) {
        const observations = drawObservations(content, ROWS, 11 + step)
        const [wanted, ...others] = policies.map((policy) => policy.act(observations))
        for (const given of others) t.true(largestDifference(given, wanted!, content) <= 1e-6)
      }
    }
  }
})

test('in JavaScript members play by their weights, whole episodes, alone as in a batch', async (t) => {
  const content = mixtureOf({ widths: [2, 8, 1] })
  const policy = await loadInBrowser(writeSafetensors(content))
  const alone = await loadInBrowser(writeSafetensors(content))
  const members = await Promise.all(
    WEIGHTS.map((_, k) => {
      const tensors = new Map(
        [...content.tensors].flatMap(([name, tensor]) => {
          if (name === 'weights') return []
          if (!name.startsWith('member.')) return [[name, tensor] as const]
          return name.startsWith(`member.${k}.`) ? [[name.slice(9), tensor] as const] : []
        }),
      )
      return loadInBrowser(writeSafetensors({ metadata: new Map([...content.metadata, ['kind', 'mlp']]), tensors }))
    }),
  )
  const count = 6000
  const many = Array.from({ length: count }, (_, row) => row)
  const start = drawObservations(content, 1)
  policy.reset(many, many)
  const play = (observations: Float32Array): number[] => {
    const answers = members.map((member) => member.act(observations))
    return Array.from(policy.act(observations), (action, row) => answers.findIndex((own) => own[row] === action))
  }
  // All begin alike: the seed alone tells them apart.
  const drawn = play(Float32Array.from({ length: 2 * count }, (_, i) => start[i % 2]!))
  WEIGHTS.forEach((weight, k) => {
    const share = drawn.filter((member) => member === k).length / count
    t.true(Math.abs(share - weight) < 5 * Math.sqrt(0.25 / count), `${k}: ${share}`)
  })
  const later = drawObservations(content, count)
  t.deepEqual(play(later), drawn)
  for (const row of [0, 17, 4321]) {
    alone.reset([0], [row])
    alone.act(start)
    t.is(alone.act(later.subarray(2 * row, 2 * row + 2))[0], policy.act(later)[row])
  }
})

test('what does not fit, and what JavaScript or a format cannot play, is refused', async (t) => {
  const content = mixtureOf({ widths: [2, 8, 1], spread: 'constant' })
  const path = await written('refused', content)
  const refused = (change: (file: Safetensors) => void): Promise<unknown> => {
    const file = { metadata: new Map(content.metadata), tensors: new Map(content.tensors) }
    change(file)
    return loadInBrowser(writeSafetensors(file))
  }
  const bad = { shape: [3], values: Float32Array.of(1, 0, 1) }
  await t.throwsAsync(
    refused((file) => file.tensors.set('weights', bad)),
    { message: /weights: value 1 is 0/ },
  )
  const missing = /member\.1\.actor\.0\.weight: is missing/
  await t.throwsAsync(
    refused((file) => file.tensors.delete('member.1.actor.0.weight')),
    { message: missing },
  )
  await t.throwsAsync(
    refused((file) => file.metadata.set('member_kind', 'latent')),
    { message: /metadata member_kind/ },
  )
  await t.throwsAsync(
    refused((file) => file.metadata.delete('seed')),
    { message: /metadata seed: is missing/ },
  )
  const stray = { shape: [1], values: Float32Array.of(1) }
  await t.throwsAsync(
    refused((file) => file.tensors.set('member.7.x', stray)),
    { message: /member\.7\.x/ },
  )
  await t.throwsAsync(loadPolicy(path, { sample: 1 }, { runtime: 'javascript' }), { code: 'Addon' })
  t.is((await loadPolicy(path, { sample: 1 })).settings['sample'], 1)
  const out = join(folder, 'policy.onnx')
  await t.throwsAsync(exportPolicy({ policy: path, format: 'onnx', out }), { code: 'Data', message: /"mixture"/ })
  const copy = join(folder, 'copy.safetensors')
  t.is((await exportPolicy({ policy: path, format: 'safetensors', out: copy })).path, copy)
})
