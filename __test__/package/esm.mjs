// Run in a folder where drcorl was installed: the API by `import`, a training of a few steps,
// and which libtorch was loaded.
import assert from 'node:assert/strict'
import { existsSync, readFileSync, realpathSync } from 'node:fs'
import { loadDataset, loadPolicy, train } from 'drcorl'

const dataset = await loadDataset('env:point-circle?episodes=10')
assert.ok(dataset.summary.transitions > 100)
const config = { cost_limit: 40, update_steps: 20, model_steps: 5, model_rollouts: 2, fqe_steps: 2 }
let end
for await (const event of train({ dataset, algorithm: 'bc', config, out: 'runs/esm', overwrite: true })) {
  if (event.type === 'end') end = event
}
assert.equal(end?.status, 'done')
assert.equal(end.environment_steps, 0)

const policy = await loadPolicy('runs/esm/policy.safetensors')
policy.reset([0])
const zeros = { rewards: new Float32Array(1), costs: new Float32Array(1) }
const action = await policy.act(new Float32Array(policy.obs_dim), zeros)
assert.equal(action.length, policy.act_dim)
assert.ok(action.every(Number.isFinite))

// Linux tells what a process has mapped: all of ours must come from where the packages were installed.
if (existsSync('/proc/self/maps')) {
  const maps = readFileSync('/proc/self/maps', 'utf8').matchAll(
    / (\/.*(?:drcorl|torch|c10|gomp|cudart|cupti)[^/\n]*\.(?:node|so)[.\d]*)$/gm,
  )
  const loaded = [...new Set([...maps].map((match) => match[1]))]
  assert.ok(
    loaded.some((path) => path.includes('libtorch_cpu')),
    'libtorch was not loaded',
  )
  const here = realpathSync('node_modules')
  for (const path of loaded) assert.ok(path.startsWith(here), `${path} lies outside ${here}`)
}
console.log(`import: trained ${end.steps} steps, acted`)
