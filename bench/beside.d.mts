export interface Opened {
  losses: number[]
  first_loss: number
  first_call_seconds: number
}

export interface Step {
  name: string
  gflop: number
  mbyte: number
  losses: number[]
  constants: Record<string, number>
}

export interface Machine {
  steps: Step[]
  roofline: { unit: string; gbyte_per_s: number }
}

export interface Target {
  step: string
  beside: 'plain' | 'best peer'
  precision: string
  target_ratio: number
  ratio: number
  met: boolean
  peer: string | null
}

export interface Judged {
  name: string
  ms: number
  plain_ms: number
  ratio: number
  losses: number[]
  roofline: { bound: string | null; least_ms: number | null; share: number | null }
  precisions: { matmul_precision: string; ms: number; ratio: number; best_peer_ratio: number }[]
  peers: { name: string; ms: number; ratio: number; losses: number[]; first_call_seconds: number }[]
  best_peer: string
  best_peer_ratio: number
}

export interface Result {
  steps: Judged[]
  targets: Target[]
}

export interface Report extends Result {
  rounds: number
  threads: number
  roofline: { unit: string; gbyte_per_s: number; gflop_per_s: number | null }
  matmul_gflop_per_s: number
  versions: { name: string; version: string; python: string }[]
  times: Times
}

type Times = Record<string, Record<string, number[]>>

export const PEERS: Record<string, { label: string; script: string; versions: Record<string, string> }>
export function parsePeers(text: string): string[]
export function packagesOf(name: string): { packages: string[]; bytes: number }
export function isInstalled(name: string): boolean
export function checkLosses(label: string, step: Step, opened: Opened): void
export function judge(
  machine: Machine,
  opened: Record<string, Record<string, Opened>>,
  times: Times,
  peak: number | null,
  others?: { name: string; ratio: number }[],
): Result
export function beside(
  names: string[],
  options?: { others?: { name: string; ratio: number }[]; only?: string[]; rounds?: number; seconds?: number },
): Promise<Report>
export function text(report: Report): string
