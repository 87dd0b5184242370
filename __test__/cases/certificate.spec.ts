/** A column that says nothing changes no verdict. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { drcorl, inProcess, temporaryFolder } from '../cli/spawn.js'
import { caseIf, generate } from './cases.js'

const constant = caseIf('constant_column.py', 'h5py', 'numpy')

constant('constant_column: a column of one value leaves the verdict as it is', async (t) => {
  t.timeout(30 * 60_000, 'a run of the default preset takes minutes')
  const folder = await temporaryFolder()
  const [plain, constantColumn, out] = ['circle.hdf5', 'constant.hdf5', 'run'].map((name) => join(folder, name))
  t.is((await inProcess('data', 'convert', 'env:point-circle', plain!)).status, 0)
  generate('constant_column.py', plain!, constantColumn!)
  const words = ['--algorithm', 'bc_safe', '--cost-limit', '10', '--seed', '0', '--out', out!]
  const { status, stderr } = await drcorl('train', '--dataset', constantColumn!, ...words)
  t.is(status, 0, stderr)
  const certificate = JSON.parse(await readFile(join(out!, RUN_FILES.certificate), 'utf8')) as Record<string, unknown>
  t.is(certificate['verdict'], 'certified', JSON.stringify(certificate['reasons']))
  t.notRegex(JSON.stringify(certificate['reasons']), /left the range/)
})
