/** Compiled where drcorl was installed: the types are found from CommonJS too. */
import drcorl = require('drcorl')

async function firstPhase(): Promise<string | undefined> {
  const dataset: drcorl.Dataset = await drcorl.loadDataset('env:point-circle?episodes=2')
  for await (const event of drcorl.train({ dataset, config: { cost_limit: 10 } })) {
    if (event.type === 'start') return event.phases[0]?.name
  }
  return undefined
}

export = firstPhase
