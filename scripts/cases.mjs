// `node scripts/cases.mjs`: the Python packages that the generators of `__test__/cases` need, in target/cases (1.1 GB;
// minari buffers episodes with jax). Nothing else needs them. Running it again does only what is out of date.
import { join } from 'node:path'
import { pipInstall } from './lib/python.mjs'
import { fail, ROOT, runSteps } from './lib/run.mjs'

const PACKAGES = [
  'gymnasium==1.4.0',
  'h5py==3.16.0',
  'hdf5plugin==7.1.0',
  'jax==0.10.2',
  'minari==0.5.4',
  'numpy==2.4.6',
  'pandas==3.1.1',
  'pillow==13.0.0',
  'pyarrow==26.0.1',
]
const MODULES = 'gymnasium, h5py, hdf5plugin, jax, minari, numpy, pandas, PIL, pyarrow'
const FOLDER = join(ROOT, 'target/cases')

const STEPS = [['cases', 'the Python packages', () => pipInstall('cases', PACKAGES, FOLDER, MODULES)]]

runSteps(STEPS, 'packages of the cases ready in').catch(fail)
