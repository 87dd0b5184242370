import { basename } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { nearest } from '../config/admit.js'

/** One of the 38 DSRL tasks: what its environment is, and the numbers that normalise a score. */
export interface Task {
  task: string
  env_id: string
  suite: string
  /** Name of the official dataset file. */
  dataset_file: string
  /** Id of the real environment in Gymnasium's registry, once its suite is imported; MetaDrive's is DSRL's own. */
  simulator_id: string
  obs_dim: number
  act_dim: number
  /** Steps after which an episode is truncated. */
  episode_length: number
  min_return: number
  max_return: number
  min_cost: number
  max_cost: number
  /** Cost limits at which DSRL reports scores. */
  cost_limits: number[]
  /** Where the official dataset file can be fetched. */
  dataset_url: string
  /** DSRL's grids that thin the official file, by the share of it that they are named after; none for some tasks. */
  density: Record<string, DensityGrid>
}

/**
 * Cells over the plane of episodic cost and return: one with more episodes than `most` keeps that many,
 * one with `least` or fewer none.
 */
export interface DensityGrid {
  cost_bins: number
  return_bins: number
  most: number
  least: number
}

/** DSRL's files, by name. Their sizes and checksums are published nowhere but by this server, in its answers. */
const DATASETS_URL = 'https://huggingface.co/datasets/YYY-45/DSRL/resolve/main/'

/**
 * DSRL's table (dsrl 0.1.0): task, environment, suite, file, S, A, episode length, extremes of return and cost over the
 * file, cost limits, density grids (share:cost bins x return bins:most:least). Actions lie in [-1, 1] everywhere.
 */
const TABLE = `
  AntCircle OfflineAntCircle-v0 bullet_safety_gym SafetyAntCircle-v0-200-5728.hdf5 34 8 500 0.0177031010389328 460.7091979980469 0 200 10,20,40 0.5:10x50:12:2,0.75:10x50:20:2
  AntRun OfflineAntRun-v0 bullet_safety_gym SafetyAntRun-v0-150-1816.hdf5 33 8 200 0.001767391717990563 955.4818725585938 0 150 10,20,40 0.5:10x50:6:2,0.75:10x50:10:2
  BallCircle OfflineBallCircle-v0 bullet_safety_gym SafetyBallCircle-v0-80-886.hdf5 8 2 200 0.38312244415283203 881.46337890625 0 80 10,20,40 0.5:10x20:5:2,0.75:10x30:10:2
  BallRun OfflineBallRun-v0 bullet_safety_gym SafetyBallRun-v0-80-940.hdf5 7 2 100 26.339754104614258 1327.445556640625 0 80 10,20,40 0.5:10x15:7:2,0.75:10x15:12:2
  CarCircle OfflineCarCircle-v0 bullet_safety_gym SafetyCarCircle-v0-100-1450.hdf5 8 2 300 3.484419822692871 534.3060913085938 0 100 10,20,40 0.5:10x50:5:2,0.75:10x50:9:2
  CarRun OfflineCarRun-v0 bullet_safety_gym SafetyCarRun-v0-40-651.hdf5 7 2 200 204.28726196289062 574.6533203125 0 40 10,20,40 0.5:10x20:6:2,0.75:10x20:11:2
  DroneCircle OfflineDroneCircle-v0 bullet_safety_gym SafetyDroneCircle-v0-100-1923.hdf5 18 4 300 207.794189453125 996.38916015625 0 100 10,20,40 0.5:10x50:10:2,0.75:10x50:18:2
  DroneRun OfflineDroneRun-v0 bullet_safety_gym SafetyDroneRun-v0-140-1990.hdf5 17 4 200 10.557029724121094 682.8330078125 0 140 10,20,40 0.5:10x50:6:2,0.75:10x50:18:2
  CarButton1 OfflineCarButton1Gymnasium-v0 safety_gymnasium_navigation SafetyCarButton1Gymnasium-v0-250-2656.hdf5 88 2 1000 0.0028926206826067613 44.420003345738984 0 250 20,40,80 0.25:10x10:8:2,0.5:10x10:18:2
  CarButton2 OfflineCarButton2Gymnasium-v0 safety_gymnasium_navigation SafetyCarButton2Gymnasium-v0-300-3755.hdf5 88 2 1000 0.001767391717990563 41.99513815522894 0 300 20,40,80 0.25:10x8:13:2,0.5:10x8:28:2
  CarCircle1 OfflineCarCircle1Gymnasium-v0 safety_gymnasium_navigation SafetyCarCircle1Gymnasium-v0-250-1271.hdf5 40 2 500 8.037073135375977 24.94155502319336 0 250 20,40,80 0.25:10x5:12:2,0.5:10x5:28:2
  CarCircle2 OfflineCarCircle2Gymnasium-v0 safety_gymnasium_navigation SafetyCarCircle2Gymnasium-v0-400-940.hdf5 40 2 500 5.113386154174805 25.950098037719727 0 398 20,40,80 0.25:10x5:8:2,0.5:10x5:18:2
  CarGoal1 OfflineCarGoal1Gymnasium-v0 safety_gymnasium_navigation SafetyCarGoal1Gymnasium-v0-120-1671.hdf5 72 2 1000 0.012232819540852091 39.907809198384705 0 120 20,40,80 0.25:10x8:6:2,0.5:10x8:13:2
  CarGoal2 OfflineCarGoal2Gymnasium-v0 safety_gymnasium_navigation SafetyCarGoal2Gymnasium-v0-200-4105.hdf5 72 2 1000 0.001032874531954775 28.902897990056502 0 200 20,40,80 0.25:10x8:14:2,0.5:10x8:30:2
  CarPush1 OfflineCarPush1Gymnasium-v0 safety_gymnasium_navigation SafetyCarPush1Gymnasium-v0-200-2871.hdf5 88 2 1000 0.013700173533941762 16.304467598905237 0 200 20,40,80 0.25:10x6:16:2,0.5:10x6:36:2
  CarPush2 OfflineCarPush2Gymnasium-v0 safety_gymnasium_navigation SafetyCarPush2Gymnasium-v0-250-4407.hdf5 88 2 1000 0.00029391133526335267 15.141648491514314 0 250 20,40,80 0.25:10x8:22:2,0.5:10x8:50:2
  PointButton1 OfflinePointButton1Gymnasium-v0 safety_gymnasium_navigation SafetyPointButton1Gymnasium-v0-200-2268.hdf5 76 2 1000 0.008822109034937853 41.19301568767707 0 200 20,40,80 0.25:10x10:6:2,0.5:10x10:13:2
  PointButton2 OfflinePointButton2Gymnasium-v0 safety_gymnasium_navigation SafetyPointButton2Gymnasium-v0-250-3288.hdf5 76 2 1000 0.014114166087574098 42.8985953616709 0 250 20,40,80 0.25:10x8:12:2,0.5:10x8:25:2
  PointCircle1 OfflinePointCircle1Gymnasium-v0 safety_gymnasium_navigation SafetyPointCircle1Gymnasium-v0-200-1098.hdf5 28 2 500 20.067626953125 61.72819519042969 0 200 20,40,80 0.25:10x5:12:2,0.5:10x5:28:2
  PointCircle2 OfflinePointCircle2Gymnasium-v0 safety_gymnasium_navigation SafetyPointCircle2Gymnasium-v0-300-895.hdf5 28 2 500 20.478347778320312 54.02184295654297 0 299 20,40,80 0.25:10x5:10:2,0.5:10x5:20:2
  PointGoal1 OfflinePointGoal1Gymnasium-v0 safety_gymnasium_navigation SafetyPointGoal1Gymnasium-v0-100-2022.hdf5 60 2 1000 0.01196012764197707 30.071114857340543 0 100 20,40,80 0.25:10x8:7:2,0.5:10x8:16:2
  PointGoal2 OfflinePointGoal2Gymnasium-v0 safety_gymnasium_navigation SafetyPointGoal2Gymnasium-v0-200-3442.hdf5 60 2 1000 0.002616959830266108 27.717709787852737 0 200 20,40,80 0.25:10x6:14:2,0.5:10x8:24:2
  PointPush1 OfflinePointPush1Gymnasium-v0 safety_gymnasium_navigation SafetyPointPush1Gymnasium-v0-150-2379.hdf5 76 2 1000 0.0014001545292344209 16.518654299293367 0 150 20,40,80 0.25:10x6:13:2,0.5:10x6:28:2
  PointPush2 OfflinePointPush2Gymnasium-v0 safety_gymnasium_navigation SafetyPointPush2Gymnasium-v0-200-3242.hdf5 76 2 1000 0.0012438183001730607 14.691039145644403 0 200 20,40,80 0.25:10x8:15:2,0.5:10x8:34:2
  AntVelocity OfflineAntVelocityGymnasium-v1 safety_gymnasium_velocity SafetyAntVelocityGymnasium-v1-250-2249.hdf5 27 8 1000 6.1519012451171875 2976.276611328125 0 250 20,40,80 -
  HalfCheetahVelocity OfflineHalfCheetahVelocityGymnasium-v1 safety_gymnasium_velocity SafetyHalfCheetahVelocityGymnasium-v1-250-2495.hdf5 17 6 1000 5.7509765625 2806.93310546875 0 250 20,40,80 0.25:10x10:12:2,0.5:10x10:26:2
  HopperVelocity OfflineHopperVelocityGymnasium-v1 safety_gymnasium_velocity SafetyHopperVelocityGymnasium-v1-250-2240.hdf5 11 3 1000 37.05154800415039 1911.396728515625 0 250 20,40,80 -
  SwimmerVelocity OfflineSwimmerVelocityGymnasium-v1 safety_gymnasium_velocity SafetySwimmerVelocityGymnasium-v1-200-1686.hdf5 8 2 1000 0.07114458084106445 238.95831298828125 0 200 20,40,80 0.25:10x10:7:2,0.5:10x10:14:2
  Walker2dVelocity OfflineWalker2dVelocityGymnasium-v1 safety_gymnasium_velocity SafetyWalker2dVelocityGymnasium-v1-300-2729.hdf5 17 6 1000 18.668498992919922 3418.223876953125 0 300 20,40,80 0.25:10x10:10:2,0.5:10x10:22:2
  easysparse OfflineMetadrive-easysparse-v0 metadrive SafeMetaDrive-easysparse-v0-85-1000.hdf5 261 2 1000 20.094310760498047 425.8006286621094 0.00025356505648232996 82.42418670654297 10,20,40 -
  easymean OfflineMetadrive-easymean-v0 metadrive SafeMetaDrive-easymean-v0-85-1000.hdf5 261 2 1000 22.142553329467773 425.82440185546875 0 82.38601684570312 10,20,40 -
  easydense OfflineMetadrive-easydense-v0 metadrive SafeMetaDrive-easydense-v0-85-1000.hdf5 261 2 1000 19.71139144897461 425.81732177734375 0 80.36358642578125 10,20,40 0.5:10x20:15:2,0.75:10x20:30:2
  mediumsparse OfflineMetadrive-mediumsparse-v0 metadrive SafeMetaDrive-mediumsparse-v0-50-1000.hdf5 261 2 1000 17.446578979492188 269.80084228515625 0 46.46459197998047 10,20,40 -
  mediummean OfflineMetadrive-mediummean-v0 metadrive SafeMetaDrive-mediummean-v0-50-1000.hdf5 261 2 1000 17.032529830932617 269.8221435546875 0 46.46154022216797 10,20,40 0.5:10x20:16:2,0.75:10x20:33:2
  mediumdense OfflineMetadrive-mediumdense-v0 metadrive SafeMetaDrive-mediumdense-v0-50-1000.hdf5 261 2 1000 15.102348327636719 269.7813415527344 0 46.45858383178711 10,20,40 -
  hardsparse OfflineMetadrive-hardsparse-v0 metadrive SafeMetaDrive-hardsparse-v0-85-1000.hdf5 261 2 1000 17.247974395751953 486.80523681640625 0 85.010009765625 10,20,40 0.5:10x20:12:2,0.75:10x20:32:2
  hardmean OfflineMetadrive-hardmean-v0 metadrive SafeMetaDrive-hardmean-v0-85-1000.hdf5 261 2 1000 19.387981414794922 486.9967956542969 0.00033149970113299787 84.33995056152344 10,20,40 -
  harddense OfflineMetadrive-harddense-v0 metadrive SafeMetaDrive-harddense-v0-85-1000.hdf5 261 2 1000 15.386894226074219 486.63616943359375 0 84.76679229736328 10,20,40 -
`

/** `<environment>-<largest cost>-<trajectories>.hdf5`, DSRL's file names. */
const FILE_NAME = /^(.+-v\d+)-\d+-\d+(-train|-heldout)?\.(?:hdf5|h5)$/

export const TASKS: readonly Task[] = TABLE.trim().split('\n').map(readRow)

function readRow(row: string): Task {
  const [task = '', env_id = '', suite = '', dataset_file = '', ...rest] = row.trim().split(' ')
  const [obs_dim = 0, act_dim = 0, episode_length = 0] = rest.slice(0, 3).map(Number)
  const [min_return = 0, max_return = 0, min_cost = 0, max_cost = 0] = rest.slice(3, 7).map(Number)
  const cost_limits = (rest[7] ?? '').split(',').map(Number)
  const range = { min_return, max_return, min_cost, max_cost }
  // The files are named after the environments they were recorded in.
  const simulator_id = FILE_NAME.exec(dataset_file)?.[1] ?? ''
  const dataset_url = `${DATASETS_URL}${dataset_file}`
  const density = readGrids(rest[8] ?? '-')
  return {
    task,
    env_id,
    suite,
    dataset_file,
    simulator_id,
    obs_dim,
    act_dim,
    episode_length,
    ...range,
    cost_limits,
    dataset_url,
    density,
  }
}

function readGrids(cell: string): Record<string, DensityGrid> {
  const grids = cell === '-' ? [] : cell.split(',')
  return Object.fromEntries(
    grids.map((grid) => {
      const [share = '', ...numbers] = grid.split(/[:x]/)
      const [cost_bins = 0, return_bins = 0, most = 0, least = 0] = numbers.map(Number)
      return [share, { cost_bins, return_bins, most, least }]
    }),
  )
}

/**
 * The task of a name, in any case.
 *
 * @throws DrcorlError `Usage` with the nearest known name.
 */
export function requireTask(name: string): Task {
  const lower = name.toLowerCase()
  const found = TASKS.find(({ task, env_id }) => task.toLowerCase() === lower || env_id.toLowerCase() === lower)
  if (found !== undefined) return found
  const guess = nearest(
    name,
    TASKS.map(({ task }) => task),
  )
  throw new DrcorlError('Usage', `unknown task "${name}"${guess === undefined ? '' : `; did you mean ${guess}?`}`, {
    hint: 'see: drcorl list tasks',
  })
}

/** True for a file that `data split` made of a task's own, by its name. */
export const isPart = (path: string): boolean => FILE_NAME.exec(basename(path))?.[2] !== undefined

/**
 * The task a DSRL file name speaks of, or undefined. The two numbers in the name may differ from the official file's:
 * then it is the same task with other data.
 */
export function recogniseTask(path: string): Task | undefined {
  const environment = FILE_NAME.exec(basename(path))?.[1]
  return TASKS.find((task) => task.simulator_id === environment)
}
