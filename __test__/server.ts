import { createHash } from 'node:crypto'
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Handler = (request: IncomingMessage, response: ServerResponse, attempt: number) => void

/** Byte of the file after which an answer breaks off. */
const breaks = new WeakMap<ServerResponse, number>()

/** A local HTTP server; handlers count their requests from 1. */
export class TestServer {
  private current: ServerResponse | undefined
  readonly requests: { range: string | undefined; ifRange: string | undefined }[] = []

  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {}

  static async start(handler: Handler): Promise<TestServer> {
    const server = createServer((request, response) => {
      const { range, 'if-range': ifRange } = request.headers
      started.current = response
      started.requests.push({ range, ifRange: ifRange as string | undefined })
      handler(request, response, started.requests.length)
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const started = new TestServer(server, `http://127.0.0.1:${port}/data.hdf5`)
    return started
  }

  /**
   * The client has so many bytes: breaks the connection if that is what its answer is to do. Not by a timer: bytes that
   * a client has received and not read are lost with the connection, and how fast it reads depends on the machine.
   */
  clientHas(bytes: number): void {
    const at = this.current === undefined ? undefined : breaks.get(this.current)
    if (at !== undefined && bytes >= at) this.current?.destroy()
  }

  stop(): void {
    this.server.closeAllConnections()
    this.server.close()
  }
}

export const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

interface ServeOptions {
  etag?: string | null
  /** Break the connection once the client has so many bytes of the body; see `clientHas`. */
  breakAfter?: number
  /** Answer the whole file whatever is asked. */
  ignoreRange?: boolean
  headers?: Record<string, string>
}

/** Serves bytes as a good server does, but for what the options say. */
export function serve(
  request: IncomingMessage,
  response: ServerResponse,
  bytes: Buffer,
  { etag = '"v1"', breakAfter, ignoreRange = false, headers = {} }: ServeOptions = {},
): void {
  const asked = /^bytes=(\d+)-$/.exec(request.headers.range ?? '')
  const same = request.headers['if-range'] === undefined || request.headers['if-range'] === etag
  const start = asked !== null && same && !ignoreRange ? Number(asked[1]) : 0
  const body = bytes.subarray(start)
  const head: Record<string, string | number> = { 'content-length': body.length, ...headers }
  if (etag !== null) head['etag'] = etag
  if (start > 0) head['content-range'] = `bytes ${start}-${bytes.length - 1}/${bytes.length}`
  response.writeHead(start > 0 ? 206 : 200, head)
  if (breakAfter === undefined || breakAfter >= body.length) {
    response.end(body)
    return
  }
  breaks.set(response, start + breakAfter)
  response.write(body.subarray(0, breakAfter))
}
