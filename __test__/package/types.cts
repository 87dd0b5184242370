/** Compiled where drcorl was installed: the types are found from CommonJS too. */
import drcorl = require('drcorl')

/** The types of the addons are found beside dist: had `Float64Array` become `any`, the line below would be no error. */
function returnsOf(episodes: drcorl.NativeEpisodes): Float64Array {
  // @ts-expect-error
  const text: string = episodes.returns
  return text === '' ? new Float64Array() : episodes.returns
}

async function firstPhase(): Promise<string | undefined> {
  const dataset: drcorl.Dataset = await drcorl.loadDataset('env:point-circle?episodes=2')
  if (returnsOf(dataset.native.episodes()).length !== 2) throw new Error('two episodes were asked for')
  for await (const event of drcorl.train({ dataset, config: { cost_limit: 10 } })) {
    if (event.type === 'start') return event.phases[0]?.name
  }
  return undefined
}

export = firstPhase
