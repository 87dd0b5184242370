import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { dataFolders, locateDataset } from '../../src/data/locate.js'

const OFFICIAL = 'SafetyBallCircle-v0-80-886.hdf5'
const OTHER = 'SafetyBallCircle-v0-80-800.hdf5'

/** Three folders, as the environment names them, with the given files. */
async function world(own: string[], dsrl: string[], cache: string[]): Promise<NodeJS.ProcessEnv> {
  const root = await mkdtemp(join(tmpdir(), 'drcorl-locate-'))
  const folders: [string, string[]][] = [
    ['own', own],
    ['dsrl', dsrl],
    ['cache/drcorl/datasets', cache],
  ]
  for (const [folder, names] of folders) {
    await mkdir(join(root, folder), { recursive: true })
    for (const name of names) await writeFile(join(root, folder, name), '')
  }
  return {
    DRCORL_DATA: join(root, 'own'),
    DSRL_DATASET_DIR: join(root, 'dsrl'),
    XDG_CACHE_HOME: join(root, 'cache'),
  }
}

test('folders are searched in their order; in each the official file comes first', async (t) => {
  const found = async (...files: [string[], string[], string[]]): Promise<string> => {
    const env = await world(...files)
    const path = await locateDataset('BallCircle', env)
    const folder = dataFolders(env).findIndex((candidate) => path.startsWith(candidate.path))
    return `${folder} ${path.split('/').at(-1)}`
  }
  t.is(await found([OTHER, OFFICIAL], [OFFICIAL], [OFFICIAL]), `0 ${OFFICIAL}`)
  t.is(await found([OTHER], [OFFICIAL], [OFFICIAL]), `0 ${OTHER}`)
  t.is(await found(['notes.txt', `${OFFICIAL}.part`], [OFFICIAL], [OTHER]), `1 ${OFFICIAL}`)
  // A part of a dataset is not the dataset.
  t.is(await found([OTHER.replace('.', '-train.'), OTHER], [OFFICIAL], []), `0 ${OTHER}`)
  t.is(await found([], ['SafetyCarRun-v0-40-651.hdf5'], [OTHER]), `2 ${OTHER}`)
})

test('a missing dataset is refused with the folders searched and the remedy', async (t) => {
  const env = await world([], [], [])
  const error = await t.throwsAsync(locateDataset('BallCircle', { ...env, DSRL_DATASET_DIR: '/nowhere' }), {
    instanceOf: DrcorlError,
  })
  t.like(error, { code: 'Io', exitStatus: 2 })
  t.true(error?.message.includes(`${env['DRCORL_DATA']} ($DRCORL_DATA)`), error?.message)
  t.true(error?.message.includes('/nowhere ($DSRL_DATASET_DIR: absent)'), error?.message)
  t.regex((error as DrcorlError).hint ?? '', /drcorl data fetch BallCircle/)
})

test('several candidates are refused by name, unknown tasks with the nearest', async (t) => {
  const env = await world([OTHER, 'SafetyBallCircle-v0-80-100.hdf5'], [OFFICIAL], [])
  const error = await t.throwsAsync(locateDataset('BallCircle', env), { instanceOf: DrcorlError })
  t.like(error, { code: 'Usage', exitStatus: 2 })
  t.regex(error?.message ?? '', /2 datasets of task BallCircle: .*80-100.hdf5, .*80-800.hdf5/)
  await t.throwsAsync(locateDataset('BallCirle', env), { message: /did you mean BallCircle/ })
})
