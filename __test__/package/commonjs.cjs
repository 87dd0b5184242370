// Run in a folder where drcorl was installed: the API by `require`. Node 20.19 and 22.12 load ES modules that way.
const assert = require('node:assert/strict')
const { DrcorlError, TASKS, VERSION, evaluate, loadDataset } = require('drcorl')

async function main() {
  assert.equal(VERSION, require('drcorl/package.json').version)
  assert.ok(TASKS.length > 30)
  const { summary } = await loadDataset('env:point-circle?episodes=2')
  assert.equal(summary.episodes, 2)
  const { evaluation } = await evaluate({ run: 'runs/esm', episodes: 2 })
  assert.equal(evaluation.episodes, 2)
  // One class, however the package was loaded: `instanceof` holds across both.
  const esm = await import('drcorl')
  assert.equal(esm.DrcorlError, DrcorlError)
  await assert.rejects(
    esm.loadDataset('absent.hdf5'),
    (error) => error instanceof DrcorlError && error.exitStatus === 2,
  )
  console.log(`require: read a dataset, evaluated ${evaluation.episodes} episodes`)
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
