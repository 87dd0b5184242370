import test from 'ava'
import { VERSION } from '../../src/base/version.js'
import { addonError } from '../../src/native/addons.js'
import { type Host, libraryNames, refusal } from '../../src/native/platform.js'

const LINUX: Host = { platform: 'linux', arch: 'x64', libc: 'glibc' }
const PACKAGE = '@drcorl/core-linux-x64-gnu'
const absent = Object.assign(new Error(`Cannot find module '${PACKAGE}'`), { code: 'MODULE_NOT_FOUND' })

test('a package that is not installed is named, with the command that installs it', (t) => {
  const error = addonError('core', { package: PACKAGE }, absent, LINUX, false)
  t.like(error, { code: 'Addon', exitStatus: 1, hint: `run: npm install ${PACKAGE}@${VERSION}` })
  t.regex(error.message, /@drcorl\/core-linux-x64-gnu is not installed/)
  t.is(addonError('core', { package: PACKAGE }, absent, LINUX, true).hint, 'run: npm run setup')
})

test('an addon that does not load tells why, in one line', (t) => {
  const cause = new Error('libstdc++.so.6: version `GLIBCXX_3.4.30` not found\nmore')
  const error = addonError('runtime', { file: '/x/drcorl.node' }, cause, LINUX, false)
  t.regex(error.message, /\/x\/drcorl\.node does not load: libstdc\+\+.*not found$/)
})

test('machines without native packages are refused in one sentence', (t) => {
  const refused: [Host, RegExp][] = [
    [{ ...LINUX, libc: 'musl' }, /musl \(Alpine Linux\)/],
    [{ platform: 'darwin', arch: 'x64', libc: undefined }, /Intel Macs/],
    [{ platform: 'freebsd', arch: 'x64', libc: undefined }, /freebsd-x64; there are: linux-x64, linux-arm64/],
    [{ platform: 'win32', arch: 'ia32', libc: undefined }, /win32-ia32/],
  ]
  for (const [host, message] of refused) {
    const error = addonError('runtime', {}, absent, host, false)
    t.like(error, { code: 'Addon', exitStatus: 1 })
    t.regex(error.message, message)
    t.truthy(error.hint)
  }
  for (const [platform, arch] of [
    ['linux', 'arm64'],
    ['darwin', 'arm64'],
    ['win32', 'x64'],
  ] as const) {
    t.is(refusal({ platform, arch, libc: platform === 'linux' ? 'glibc' : undefined }), undefined)
  }
})

test('libraries have the names of their platform', (t) => {
  t.deepEqual(libraryNames('linux').required, ['libc10.so', 'libtorch_cpu.so'])
  t.deepEqual(libraryNames('darwin').required, ['libc10.dylib', 'libtorch_cpu.dylib'])
  t.deepEqual(libraryNames('win32').cuda, ['c10_cuda.dll', 'torch_cuda.dll'])
})
