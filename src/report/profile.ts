/** Where the time of a run went, as rows of a table: on the terminal and in the report. */
import type { ProfilePart, ProfileProducts, RunProfile } from '../config/results.js'
import { formatNumber, words } from './format.js'
import { htmlTable, section } from './page.js'
import { escape } from './svg.js'

/** Parts that took less of the whole are in profile.json alone. */
const LEAST_SHARE = 0.005

export const PROFILE_HEADER = ['part', 'seconds', 'share', 'count', 'ms each', 'products', 'GFLOP/s', 'of peak']
export const KERNEL_HEADER = ['kernel', 'products', 'seconds', 'GFLOP', 'GFLOP/s', 'of peak']

const percent = (share: number): string => `${(100 * share).toFixed(0)} %`

/** One line a part, those inside it below and further in; what no part accounts for comes last. */
export function profileRows(profile: RunProfile): string[][] {
  const { wall_seconds: wall, parts, phases, peak, threads } = profile
  const row = (name: string, depth: number, seconds: number, calls?: number, products: ProfileProducts[] = []) => {
    const multiplied = sum(products.map((one) => one.seconds))
    const gflop = sum(products.map((one) => one.gflop))
    const rate = multiplied > 0 ? gflop / multiplied : null
    return [
      `${'  '.repeat(depth)}${words(name)}`,
      seconds.toFixed(2),
      percent(seconds / wall),
      calls === undefined ? '' : String(calls),
      calls ? formatNumber((1000 * seconds) / calls) : '',
      // Of the threads there were, since those who help multiply too.
      rate === null ? '' : percent(multiplied / (seconds * threads)),
      rate === null ? '' : rate.toFixed(0),
      rate === null ? '' : percent(rate / peak.gflop_per_s),
    ]
  }
  const inner = (part: ProfilePart, depth: number): string[][] =>
    part.seconds < LEAST_SHARE * wall
      ? []
      : [row(part.name, depth, part.seconds, part.calls, part.products)].concat(
          part.parts.flatMap((one) => inner(one, depth + 1)),
        )
  const known = sum([...parts, ...phases].map(({ seconds }) => seconds))
  return [
    ...phases.flatMap(({ name, seconds, steps, products, parts: own }) =>
      [row(name, 0, seconds, steps, products)].concat(own.flatMap((part) => inner(part, 1))),
    ),
    ...parts.map(({ name, seconds, calls }) => row(name, 0, seconds, calls)),
    row('between these', 0, Math.max(0, wall - known)),
  ]
}

/** One line a kernel. */
export const kernelRows = ({ kernels }: RunProfile): string[][] =>
  kernels.map(({ kernel, products, seconds, gflop, gflop_per_s: rate, share_of_peak: share }) => [
    kernel,
    String(products),
    seconds.toFixed(2),
    gflop.toFixed(0),
    rate.toFixed(0),
    percent(share),
  ])

/** What the columns mean. */
export function profileNotes({ wall_seconds: wall, cpu_seconds: cpu, threads, peak }: RunProfile): string[] {
  const what = threads === 1 ? 'the time of a part' : `the time of ${threads} threads in a part`
  return [
    `${wall.toFixed(1)} s in all, ${cpu.toFixed(1)} s on a core; products: share of matrix products in ${what}; GFLOP/s: their rate on one thread`,
    `peak: ${peak.gflop_per_s.toFixed(0)} GFLOP/s of one thread, measured at the end of the run (${peak.kernel}, ${peak.shape.join(' x ')})`,
  ]
}

/** Where the time went; empty for a run that was not asked. */
export function profileSection(profile: RunProfile | null): string {
  if (profile === null) return ''
  const from = profile.first_step === 0 ? '' : `Of the steps after ${profile.first_step}. `
  return section(
    'Where the time went',
    // Non-breaking spaces, or the page would swallow the indents.
    htmlTable(PROFILE_HEADER, indented(profileRows(profile)), 'numbers'),
    htmlTable(KERNEL_HEADER, kernelRows(profile), 'numbers'),
    `<p class="note">${escape(`${from}${profileNotes(profile).join('. ')}.`)}</p>`,
  )
}

const indented = (rows: string[][]): string[][] =>
  rows.map(([name = '', ...rest]) => [name.replace(/^ +/, (spaces) => '\u00a0'.repeat(2 * spaces.length)), ...rest])

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)
