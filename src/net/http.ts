/** The HTTP that a download needs: redirects by hand, what the answers say about a file, which failures pass. */
import { DrcorlError, messageOf } from '../base/errors.js'

/** What a server says about a file; what it does not say is undefined. */
export interface RemoteFile {
  /** Bytes of the whole file, by Content-Length, Content-Range or the hub's X-Linked-Size. */
  bytes: number | undefined
  /** Hex, by X-Linked-ETag (Hugging Face), Repr-Digest (RFC 9530), Digest, or an ETag that is one. */
  sha256: string | undefined
  /** Strong ETag, else Last-Modified: what a later request names to get the same bytes or none. */
  validator: string | undefined
}

export interface Answer {
  response: Response
  file: RemoteFile
  /** First byte of the body in the file; 0 for the whole file. */
  start: number
}

/** A failure that another attempt may not meet. */
export class Passing extends Error {
  constructor(
    message: string,
    /** Milliseconds the server asked to wait. */
    readonly retryAfter?: number,
  ) {
    super(message)
  }
}

/**
 * An address as it may be shown and kept: without the name, the password and the parameters in it,
 * which may be secrets.
 */
export function redact(address: string | URL): string {
  if (!URL.canParse(String(address))) return 'an address that cannot be read'
  const url = new URL(address)
  const [user, query] = [url.username !== '' || url.password !== '', url.search !== '']
  Object.assign(url, { username: '', password: '', search: '', hash: '' })
  return `${url.protocol}//${user ? '***@' : ''}${url.host}${url.pathname}${query ? '?***' : ''}`
}

const MOST_REDIRECTS = 10
/** Request Timeout, Too Early, Too Many Requests; all of 5xx besides. */
const PASSING = new Set([408, 425, 429])
/** Longer waits are left to the user. */
const LONGEST_WAIT_MS = 60_000

/**
 * Asks for a file, or for its bytes from `start` on if they are still those of `validator`.
 *
 * Redirects are followed here because the hub states size and checksum in the redirect, not in the last answer. Name
 * and password of the address are sent to its own host only.
 *
 * @throws Passing for what is worth another attempt, DrcorlError `Io` for the rest.
 */
export async function request(url: string, start: number, validator: string, signal: AbortSignal): Promise<Answer> {
  // Compressed transfer would make Range and Content-Length speak of other bytes.
  const headers: Record<string, string> = { 'accept-encoding': 'identity' }
  if (start > 0) Object.assign(headers, { range: `bytes=${start}-`, 'if-range': validator })
  const passed: Headers[] = []
  const { href, origin, authorization } = takeCredentials(url)
  let address = href
  for (let hop = 0; hop <= MOST_REDIRECTS; hop += 1) {
    const trusted = authorization !== undefined && new URL(address).origin === origin
    const sent = trusted ? { ...headers, authorization } : headers
    const response = await fetch(address, { headers: sent, redirect: 'manual', signal }).catch((error: unknown) => {
      throw new Passing(`${hostOf(address)}: ${reasonOf(error)}`)
    })
    passed.push(response.headers)
    const location = response.headers.get('location')
    if (response.status < 300 || response.status >= 400 || location === null)
      return answer(url, response, passed, start)
    await response.body?.cancel()
    address = redirected(address, location)
  }
  throw new DrcorlError('Io', `${redact(url)}: more than ${MOST_REDIRECTS} redirects`)
}

/** `fetch` refuses an address with a name and a password in it: they belong into a header. */
function takeCredentials(address: string): { href: string; origin: string; authorization: string | undefined } {
  const url = new URL(address)
  const pair = `${decode(url.username)}:${decode(url.password)}`
  const authorization = pair === ':' ? undefined : `Basic ${Buffer.from(pair).toString('base64')}`
  Object.assign(url, { username: '', password: '' })
  return { href: url.href, origin: url.origin, authorization }
}

/** Of percent signs; text with signs of no meaning stays as it is. */
export function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

function redirected(from: string, location: string): string {
  if (!URL.canParse(location, from)) throw new DrcorlError('Io', `${redact(from)}: redirects to no address`)
  const to = new URL(location, from)
  Object.assign(to, { username: '', password: '' })
  const safe = to.protocol === 'https:' || (to.protocol === 'http:' && new URL(from).protocol === 'http:')
  if (safe) return to.href
  throw new DrcorlError(
    'Io',
    `${redact(from)}: redirects to ${redact(to)}, which is refused: it is not as safe as the address asked for`,
  )
}

async function answer(url: string, response: Response, passed: readonly Headers[], asked: number): Promise<Answer> {
  const { status, headers } = response
  const encoding = headers.get('content-encoding') ?? 'identity'
  if ((status === 200 || status === 206) && encoding !== 'identity') {
    await response.body?.cancel()
    throw new DrcorlError(
      'Io',
      `${redact(url)} answers with the encoding ${encoding}, which was not asked for: how much it unpacks to is unknown`,
      { hint: 'name another address with --from URL' },
    )
  }
  if (status === 200) return { response, file: remoteFile(passed, lengthOf(headers)), start: 0 }
  if (status === 206) {
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '')
    if (range !== null && Number(range[1]) === asked) {
      const total = range[2] === '*' ? undefined : Number(range[2])
      return { response, file: remoteFile(passed, total), start: asked }
    }
  }
  await response.body?.cancel()
  const text = `${redact(url)} answers ${status}${response.statusText === '' ? '' : ` ${response.statusText}`}`
  // 416: the part at hand does not fit the file any more; a 206 of other bytes is no use either.
  if (status === 206 || status === 416) throw new Restart(text)
  if (PASSING.has(status) || status >= 500) throw new Passing(text, retryAfter(headers))
  const hint =
    status === 404 ? 'check the address, or name another one with --from URL' : 'name another address with --from URL'
  throw new DrcorlError('Io', text, { hint })
}

/** The bytes at hand are of no use: the next attempt starts from nothing. */
export class Restart extends Passing {}

function remoteFile(passed: readonly Headers[], bytes: number | undefined): RemoteFile {
  const first = <T>(read: (headers: Headers) => T | undefined): T | undefined => {
    for (const headers of passed) {
      const value = read(headers)
      if (value !== undefined) return value
    }
    return undefined
  }
  const last = passed.at(-1)
  const etag = last?.get('etag') ?? ''
  const validator = etag.startsWith('"') ? etag : (last?.get('last-modified') ?? undefined)
  const linked = first((headers) => wholeNumber(headers.get('x-linked-size')))
  if (linked !== undefined && bytes !== undefined && linked !== bytes) {
    throw new Passing(`the server states two sizes, ${linked} and ${bytes} bytes`)
  }
  return { bytes: linked ?? bytes, sha256: first(sha256Of), validator }
}

function sha256Of(headers: Headers): string | undefined {
  for (const name of ['repr-digest', 'digest']) {
    const base64 = /(?:^|,)\s*sha-256=:?([A-Za-z0-9+/]{43}=)/i.exec(headers.get(name) ?? '')?.[1]
    if (base64 !== undefined) return Buffer.from(base64, 'base64').toString('hex')
  }
  for (const name of ['x-linked-etag', 'etag']) {
    const hex = /^"?([0-9a-f]{64})"?$/.exec(headers.get(name) ?? '')?.[1]
    if (hex !== undefined) return hex
  }
  return undefined
}

function lengthOf(headers: Headers): number | undefined {
  return wholeNumber(headers.get('content-length'))
}

function wholeNumber(text: string | null): number | undefined {
  return text !== null && /^\d+$/.test(text) ? Number(text) : undefined
}

function retryAfter(headers: Headers): number | undefined {
  const seconds = wholeNumber(headers.get('retry-after'))
  return seconds === undefined ? undefined : Math.min(seconds * 1000, LONGEST_WAIT_MS)
}

function hostOf(address: string): string {
  return new URL(address).host
}

/** `fetch failed` says nothing; its cause does. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined
  if (cause instanceof AggregateError && cause.errors.length > 0) return messageOf(cause.errors[0])
  return cause instanceof Error ? cause.message : messageOf(error)
}
