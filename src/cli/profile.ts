/** The table that `--profile` prints. */
import type { RunProfile } from '../config/results.js'
import { KERNEL_HEADER, PROFILE_HEADER, kernelRows, profileNotes, profileRows } from '../report/profile.js'
import { table } from './table.js'

/** Where the time of a run went, for a terminal. */
export function profileText(profile: RunProfile): string {
  const parts = [
    aligned(PROFILE_HEADER, profileRows(profile)),
    ...(profile.kernels.length === 0 ? [] : [aligned(KERNEL_HEADER, kernelRows(profile))]),
    profileNotes(profile).join('\n'),
  ]
  return parts.join('\n\n')
}

/** Columns but the first to the right: their cells are numbers with units, or nothing. */
function aligned(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((_, column) => Math.max(...[header, ...rows].map((row) => row[column]!.length)))
  const right = (row: readonly string[]): string[] =>
    row.map((cell, column) => (column === 0 ? cell : cell.padStart(widths[column]!)))
  return table(right(header), rows.map(right))
}
