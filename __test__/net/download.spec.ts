import { existsSync } from 'node:fs'
import { link as hardlink, mkdtemp, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { type DownloadOptions, type Downloaded, download } from '../../src/net/download.js'
import { type Handler, TestServer, serve, sha256 } from '../server.js'

const BYTES = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 31 + (i >> 8)) % 251))
const OTHER = Buffer.from(BYTES.map((byte) => 255 - byte))

interface World {
  server: TestServer
  target: string
  fetch(options?: DownloadOptions): Promise<Downloaded>
  /** The error of a download that must fail. */
  refused(options?: DownloadOptions): Promise<DrcorlError>
  files(): Promise<string[]>
}

async function world(t: ExecutionContext, handler: Handler): Promise<World> {
  const server = await TestServer.start(handler)
  t.teardown(() => server.stop())
  const folder = await mkdtemp(join(tmpdir(), 'drcorl-download-'))
  const target = join(folder, 'data.hdf5')
  const fetch = (options: DownloadOptions = {}): Promise<Downloaded> => {
    const onProgress: DownloadOptions['onProgress'] = (bytes, total) => {
      server.clientHas(bytes)
      options.onProgress?.(bytes, total)
    }
    return download(server.url, target, { waitMs: 1, ...options, onProgress })
  }
  const refused = async (options?: DownloadOptions): Promise<DrcorlError> => {
    const error = await fetch(options).then(
      () => t.fail('the download succeeded'),
      (reason: unknown) => reason,
    )
    t.true(error instanceof DrcorlError, String(error))
    t.false(existsSync(target), 'a refused file has its final name')
    return error as DrcorlError
  }
  return { server, target, fetch, refused, files: () => readdir(folder) }
}

test('a good server: the bytes, their checksum, and no other file', async (t) => {
  const { target, fetch, files } = await world(t, (request, response) => serve(request, response, BYTES))
  const shown: (number | undefined)[][] = []
  const result = await fetch({ onProgress: (...progress) => shown.push(progress) })
  t.like(result, { bytes: BYTES.length, sha256: sha256(BYTES), checked: 'size of the server', resumed_from: 0 })
  t.deepEqual(await readFile(target), BYTES)
  t.deepEqual(await files(), ['data.hdf5'])
  t.deepEqual(shown.at(-1), [BYTES.length, BYTES.length])
})

test('a connection that breaks midway is gone on with, from the byte where it broke', async (t) => {
  const { server, target, fetch } = await world(t, (request, response, attempt) =>
    serve(request, response, BYTES, attempt < 4 ? { breakAfter: 70_000 } : {}),
  )
  const notes: string[] = []
  await fetch({ attempts: 2, onRetry: (note) => notes.push(note) })
  t.deepEqual(await readFile(target), BYTES)
  t.deepEqual(
    server.requests.map(({ range }) => range),
    [undefined, 'bytes=70000-', 'bytes=140000-', 'bytes=210000-'],
  )
  t.true(server.requests.slice(1).every(({ ifRange }) => ifRange === '"v1"'))
  t.is(notes.length, 3)
  t.regex(notes[0] ?? '', /the connection broke after 70000 of 300000 bytes/)
})

test('an interrupted download goes on in the next run, and asks for no byte twice', async (t) => {
  const { server, target, fetch, files, refused } = await world(t, (request, response, attempt) => {
    if (attempt > 1) serve(request, response, BYTES)
    else {
      response.writeHead(200, { 'content-length': BYTES.length, etag: '"v1"' })
      response.write(BYTES.subarray(0, 100_000))
    }
  })
  const controller = new AbortController()
  const error = await refused({
    signal: controller.signal,
    onProgress: (bytes) => bytes >= 100_000 && controller.abort(),
  })
  t.like(error, { code: 'Cancelled', exitStatus: 130 })
  t.regex(error.message, /interrupted after 100000 of 300000 bytes/)
  t.deepEqual((await files()).toSorted(), ['data.hdf5.part', 'data.hdf5.part.json'])
  t.is((await fetch()).resumed_from, 100_000)
  t.is(server.requests.at(-1)?.range, 'bytes=100000-')
  t.deepEqual(await readFile(target), BYTES)
  t.deepEqual(await files(), ['data.hdf5'])
})

test('of a complete part the last byte is asked for, so that the server says whether it is still its file', async (t) => {
  const { server, target, fetch } = await world(t, (request, response) => serve(request, response, BYTES))
  await writeFile(`${target}.part`, BYTES)
  const state = { url: server.url, validator: '"v1"', bytes: BYTES.length, sha256: sha256(BYTES) }
  await writeFile(`${target}.part.json`, JSON.stringify(state))
  t.is((await fetch()).checked, 'sha256 of the server')
  t.deepEqual(
    server.requests.map(({ range }) => range),
    [`bytes=${BYTES.length - 1}-`],
  )
})

test('a part that is not of this user, or not of this address and version, is not gone on with', async (t) => {
  const { server, target, fetch } = await world(t, (request, response) => serve(request, response, BYTES))
  const plant = async (state: object): Promise<void> => {
    await writeFile(`${target}.part`, OTHER)
    await writeFile(
      `${target}.part.json`,
      JSON.stringify({ url: server.url, validator: '"v1"', bytes: OTHER.length, sha256: null, ...state }),
    )
  }
  for (const state of [{ url: 'http://elsewhere/data.hdf5' }, { validator: '"v0"' }, { bytes: 1000 }]) {
    await plant(state)
    await fetch()
    t.deepEqual(await readFile(target), BYTES, JSON.stringify(state))
    await rm(target)
  }
  const precious = join(target, '..', 'precious')
  await writeFile(precious, 'precious')
  await plant({})
  for (const link of [symlink, hardlink]) {
    await rm(`${target}.part`, { force: true })
    await link(precious, `${target}.part`)
    await fetch()
    t.is(await readFile(precious, 'utf8'), 'precious')
    t.deepEqual(await readFile(target), BYTES)
    await rm(target)
    await plant({})
  }
})

test('a file larger than what was allowed is refused, by its length before a byte and without one when it is reached', async (t) => {
  const stated = await world(t, (request, response) => serve(request, response, BYTES))
  const error = await stated.refused({ mostBytes: 1000 })
  t.like(error, { code: 'Data', exitStatus: 2 })
  t.regex(error.message, /the file has 300000 bytes, and at most 1000 are taken/)
  t.is(stated.server.requests.length, 1)
  t.deepEqual(await stated.files(), [])

  const endless = await world(t, (_request, response) => {
    response.writeHead(200)
    const chunk = Buffer.alloc(2 ** 16)
    const more = (): void => {
      while (!response.destroyed && response.write(chunk));
      if (!response.destroyed) response.once('drain', more)
    }
    more()
  })
  t.regex((await endless.refused({ mostBytes: 2 ** 20 })).message, /has more bytes, and at most 1048576 are taken/)
  t.is(endless.server.requests.length, 1)
  t.deepEqual(await endless.files(), [])
  t.is((await stated.fetch({ mostBytes: BYTES.length })).bytes, BYTES.length)
})

test('a body that is packed though nobody asked for it is refused', async (t) => {
  const packed = gzipSync(Buffer.alloc(10_000_000))
  for (const encoding of ['gzip', 'br', 'zstd']) {
    const { refused, files, server } = await world(t, (request, response) =>
      serve(request, response, packed, { headers: { 'content-encoding': encoding } }),
    )
    const error = await refused()
    t.like(error, { code: 'Io' })
    t.regex(error.message, new RegExp(`answers with the encoding ${encoding}, which was not asked for`))
    t.is(server.requests.length, 1)
    t.deepEqual(await files(), [])
  }
})

test('a password is sent to its own host and shown nowhere', async (t) => {
  const seen: (string | undefined)[] = []
  const { server, target } = await world(t, (request, response) => {
    seen.push(request.headers.authorization)
    if (request.url?.startsWith('/data.hdf5')) {
      const other = server.url.replace('127.0.0.1', 'localhost').replace('data.hdf5', 'store?token=geheim')
      response.writeHead(302, { location: other }).end()
    } else if (seen.length > 2) response.writeHead(403).end()
    else serve(request, response, BYTES, { breakAfter: 100_000 })
  })
  const url = server.url.replace('//', '//me:s%C3%A9sam@').concat('?token=geheim')
  const result = await download(url, target, { waitMs: 1, onProgress: (bytes) => server.clientHas(bytes) }).catch(
    (error: unknown) => error as DrcorlError,
  )
  t.deepEqual(seen.slice(0, 2), [`Basic ${Buffer.from('me:s\u00e9sam').toString('base64')}`, undefined])
  const shown = `${JSON.stringify(result)} ${String((result as DrcorlError).message)}`
  t.regex(shown, /\*\*\*@127\.0\.0\.1/)
  t.regex(await readFile(`${target}.part.json`, 'utf8'), /\*\*\*@127\.0\.0\.1/)
  for (const text of [shown, await readFile(`${target}.part.json`, 'utf8')]) t.notRegex(text, /sesam|s%C3|geheim/)
})

test('a server that ignores Range is read from the start', async (t) => {
  const { target, fetch } = await world(t, (request, response, attempt) =>
    serve(request, response, BYTES, { ignoreRange: true, ...(attempt === 1 ? { breakAfter: 50_000 } : {}) }),
  )
  t.is((await fetch()).resumed_from, 0)
  t.deepEqual(await readFile(target), BYTES)
})

test('content that changes between attempts is never mixed', async (t) => {
  // Once by the book (If-Range fails: the whole new file), once by a server that gives a part of the new file.
  const handlers: Handler[] = [
    (request, response, attempt) =>
      attempt === 1
        ? serve(request, response, BYTES, { breakAfter: 50_000 })
        : serve(request, response, OTHER, { etag: '"v2"' }),
    (request, response, attempt) => {
      if (attempt === 1) return serve(request, response, BYTES, { breakAfter: 50_000 })
      delete request.headers['if-range']
      return serve(request, response, OTHER, { etag: '"v2"' })
    },
  ]
  for (const handler of handlers) {
    const { target, fetch } = await world(t, handler)
    t.is((await fetch()).sha256, sha256(OTHER))
    t.deepEqual(await readFile(target), OTHER)
  }
})

test('a file that never stays the same is given up on', async (t) => {
  const { refused } = await world(t, (request, response, attempt) => {
    delete request.headers['if-range']
    serve(request, response, BYTES, { etag: `"v${attempt}"`, breakAfter: 50_000 })
  })
  t.regex((await refused({ attempts: 3 })).message, /the file on the server has changed/)
})

test('without ETag and Last-Modified nothing is gone on with', async (t) => {
  const { server, target, fetch } = await world(t, (request, response, attempt) =>
    serve(request, response, BYTES, { etag: null, ...(attempt === 1 ? { breakAfter: 50_000 } : {}) }),
  )
  await fetch()
  t.deepEqual(
    server.requests.map(({ range }) => range),
    [undefined, undefined],
  )
  t.deepEqual(await readFile(target), BYTES)
})

test('a server that states more bytes than it has is given up on, and the part is kept', async (t) => {
  const { server, refused, files } = await world(t, (request, response) => {
    const start = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0)
    const head = { etag: '"v1"', 'content-length': 400_000 - start }
    if (start > 0) Object.assign(head, { 'content-range': `bytes ${start}-399999/400000` })
    response.writeHead(start > 0 ? 206 : 200, head)
    if (start >= BYTES.length) {
      response.flushHeaders()
      setTimeout(() => response.destroy(), 20)
    } else {
      response.write(BYTES.subarray(start))
      setTimeout(() => response.destroy(), 2000)
    }
  })
  const error = await refused({ attempts: 3 })
  t.like(error, { code: 'Io', exitStatus: 1 })
  t.regex(error.message, /broke after 300000 of 400000 bytes .*3 attempts brought nothing new/)
  t.is(server.requests.length, 4)
  t.true((await files()).includes('data.hdf5.part'))
})

test('a server that states fewer bytes than the hub is not believed', async (t) => {
  const { refused } = await world(t, (request, response) => {
    if (request.url === '/data.hdf5') {
      const head = { location: '/store', 'x-linked-size': '300000', 'x-linked-etag': `"${sha256(BYTES)}"` }
      response.writeHead(302, head).end()
    } else serve(request, response, BYTES.subarray(0, 200_000))
  })
  const error = await refused({ attempts: 2 })
  t.regex(error.message, /states two sizes, 300000 and 200000 bytes/)
})

test('checksums of the server and of the user are compared, in whatever header they come', async (t) => {
  const base64 = (bytes: Buffer): string => Buffer.from(sha256(bytes), 'hex').toString('base64')
  const stated = (bytes: Buffer): Record<string, string>[] => [
    { 'repr-digest': `sha-256=:${base64(bytes)}:` },
    { digest: `md5=x, SHA-256=${base64(bytes)}` },
    { etag: `"${sha256(bytes)}"` },
  ]
  for (const headers of stated(BYTES)) {
    const { fetch } = await world(t, (request, response) => serve(request, response, BYTES, { etag: null, headers }))
    t.is((await fetch()).checked, 'sha256 of the server')
  }
  for (const headers of stated(OTHER)) {
    const { refused, files } = await world(t, (request, response) =>
      serve(request, response, BYTES, { etag: null, headers }),
    )
    const error = await refused()
    t.like(error, { code: 'Data', exitStatus: 2 })
    t.true(error.message.includes(`not ${sha256(OTHER)} as stated by the server`), error.message)
    t.deepEqual(await files(), [])
  }
  const { fetch, refused } = await world(t, (request, response) => serve(request, response, BYTES))
  t.regex((await refused({ sha256: sha256(OTHER) })).message, /as asked for/)
  t.is((await fetch({ sha256: sha256(BYTES).toUpperCase() })).checked, 'sha256 given')
})

test('404 is final, with a remedy; 500 and 429 are asked again', async (t) => {
  const absent = await world(t, (_request, response) => void response.writeHead(404).end('not here'))
  const error = await absent.refused()
  t.like(error, { code: 'Io', exitStatus: 1 })
  t.regex(error.message, /answers 404/)
  t.regex(error.hint ?? '', /--from URL/)
  t.is(absent.server.requests.length, 1)
  t.deepEqual(await absent.files(), [])

  const broken = await world(t, (_request, response) => void response.writeHead(500).end())
  t.regex((await broken.refused({ attempts: 3 })).message, /answers 500 .*3 attempts/)
  t.is(broken.server.requests.length, 3)

  const busy = await world(t, (request, response, attempt) => {
    if (attempt === 1) response.writeHead(429, { 'retry-after': '0' }).end()
    else if (attempt === 2) response.writeHead(503).end()
    else serve(request, response, BYTES)
  })
  t.is((await busy.fetch()).bytes, BYTES.length)
})

test('a part that the server calls too long (416) is thrown away', async (t) => {
  const { target, server, fetch } = await world(t, (request, response) => {
    if (request.headers.range !== undefined) response.writeHead(416).end()
    else serve(request, response, BYTES)
  })
  await writeFile(`${target}.part`, OTHER)
  await writeFile(`${target}.part.json`, JSON.stringify({ url: server.url, validator: '"v0"', bytes: null }))
  await fetch()
  t.deepEqual(await readFile(target), BYTES)
})

test('a silent server, a refused connection and endless redirects end in an error', async (t) => {
  const silent = await world(t, () => undefined)
  t.regex((await silent.refused({ silenceMs: 60, attempts: 2 })).message, /silent for 0.06 s/)
  const stalled = await world(t, (_request, response) => {
    response.writeHead(200, { 'content-length': 10, etag: '"v1"' })
    response.write('12345')
  })
  t.regex((await stalled.refused({ silenceMs: 60, attempts: 2 })).message, /silent/)
  const gone = await world(t, () => undefined)
  gone.server.stop()
  t.regex((await gone.refused({ attempts: 2 })).message, /127\.0\.0\.1.*ECONNREFUSED/)
  const circle = await world(t, (_request, response) => void response.writeHead(302, { location: '/x' }).end())
  t.regex((await circle.refused()).message, /more than 10 redirects/)
  const file = await world(t, (_request, response) => void response.writeHead(302, { location: 'file:///x' }).end())
  t.regex((await file.refused()).message, /refused/)
})

test('what `verify` refuses does not stay', async (t) => {
  const { refused, files } = await world(t, (request, response) => serve(request, response, BYTES))
  const error = await refused({ verify: () => Promise.reject(new DrcorlError('Data', 'no HDF5 file')) })
  t.is(error.message, 'no HDF5 file')
  t.deepEqual(await files(), [])
})

test('a folder that cannot be written to is named', async (t) => {
  const { server } = await world(t, (request, response) => serve(request, response, BYTES))
  const error = await t.throwsAsync(download(server.url, '/nowhere/data.hdf5', { waitMs: 1 }), {
    instanceOf: DrcorlError,
  })
  t.like(error, { code: 'Io' })
  t.regex(error?.message ?? '', /cannot write \/nowhere\/data\.hdf5.*: no such file or folder/)
})
