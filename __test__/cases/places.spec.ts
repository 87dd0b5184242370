/** Read-only places, several runs into one folder, several reports. */
import { join } from 'node:path'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { CLI, inProcess } from '../cli/spawn.js'
import { smallFlags } from '../small.js'
import { caseIf, generate } from './cases.js'

const places = process.getuid?.() === 0 ? caseIf('places.py') : caseIf('places.py (only root can mount)')

places('places: each is a clean error, and no work is lost', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'drcorl-places-'))
  const [run, data] = [join(folder, 'run'), join(folder, 'data.hdf5')]
  t.is((await inProcess('data', 'convert', 'env:point-circle?episodes=20', data)).status, 0)
  const flags = smallFlags('bc', { cost_limit: 10, audit_members: 0, fqe_steps: 0 })
  t.is((await inProcess('train', '--dataset', data, '--algorithm', 'bc', ...flags, '--out', run)).status, 0)
  process.env['DRCORL'] = CLI.join(' ')
  const [train = '', exported = '', report = '', alone = '', both = '', ...more] = generate('places.py', run, data)
    .trimEnd()
    .split('\n')
  // The last line of what a command printed is its hint, if it has one.
  t.regex(train, /^train 2 .*--out/)
  t.regex(exported, /^export 2 \{"error":\{"code":"Io","message":"cannot write .*read-only/)
  t.regex(report, /^report 0 \{"report":/)
  t.regex(alone, /^train 0 /)
  t.regex(both, /^two --overwrite into one folder: /)
  t.regex(both, /'\{"error":\{"code":"Busy".*', 1\)/)
  t.regex(both, /'\{"status":"done".*', 0\)/)
  t.deepEqual(more, [])
  const compared = await inProcess('report', run, run, '--out', join(folder, 'r.html'), '--json')
  t.is((JSON.parse(compared.stdout) as { runs: unknown[] }).runs.length, 2)
})
