// The platforms the package is published for, and what each takes from PyTorch's wheels. What is not in this table is
// refused: there is no libtorch for musl (PyTorch links glibc) nor for Intel Macs (none since 2.3).

/** The libtorch that the `tch` crate accepts, and the Python whose wheels are read; nothing of that Python is used. */
export const LIBTORCH_VERSION = '2.13.0'
const WHEEL_PYTHON = '3.11'

// Older pips take a platform literally, so every glibc up to torch's own is named.
const GLIBC_MINORS = [28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18, 17]
const manylinux = (cpu) => [...GLIBC_MINORS.map((minor) => `manylinux_2_${minor}_${cpu}`), `manylinux2014_${cpu}`]

// PyPI's libtorch_cpu.so for Linux names two CUDA support libraries as dependencies even on a machine without a GPU.
const CUDA_SUPPORT = [
  { requirement: 'nvidia-cuda-runtime==13.0.*', libraries: ['libcudart.so.13'] },
  { requirement: 'nvidia-cuda-cupti==13.0.*', libraries: ['libcupti.so.13'] },
]
const torch = (libraries, linkOnly = []) => ({ requirement: `torch==${LIBTORCH_VERSION}`, libraries, linkOnly })

// What the wheel of torch for Linux holds besides; NVIDIA's libraries are wheels of their own, which it names.
const CUDA_OF_TORCH = [
  'libtorch.so',
  'libc10_cuda.so',
  'libtorch_cuda.so',
  'libtorch_cuda_linalg.so',
  'libcaffe2_nvrtc.so',
  'libtorch_nvshmem.so',
]

/**
 * By the name napi-rs gives a platform. `os`, `cpu` and `libc` are what npm compares with the machine; `libtorch` is
 * the main library; each wheel names the libraries needed at run time and, in `linkOnly`, those only a linker reads.
 * `cuda` is the build with CUDA that the same wheel of torch holds, and its libraries.
 */
export const PLATFORMS = {
  'linux-x64-gnu': {
    rust: 'x86_64-unknown-linux-gnu',
    os: 'linux',
    cpu: 'x64',
    libc: 'glibc',
    library: (name) => `lib${name}.so`,
    libtorch: 'libtorch_cpu.so',
    tags: manylinux('x86_64'),
    wheels: [torch(['libtorch_cpu.so', 'libc10.so', 'libgomp.so.1']), ...CUDA_SUPPORT],
    cuda: { build: 'cu130', libraries: CUDA_OF_TORCH },
  },
  'linux-arm64-gnu': {
    rust: 'aarch64-unknown-linux-gnu',
    os: 'linux',
    cpu: 'arm64',
    libc: 'glibc',
    library: (name) => `lib${name}.so`,
    libtorch: 'libtorch_cpu.so',
    tags: manylinux('aarch64'),
    wheels: [
      torch([
        'libtorch_cpu.so',
        'libc10.so',
        'libgomp.so.1',
        'libarm_compute.so',
        'libarm_compute_graph.so',
        'libnvpl_blas_core.so.0',
        'libnvpl_blas_lp64_gomp.so.0',
        'libnvpl_lapack_core.so.0',
        'libnvpl_lapack_lp64_gomp.so.0',
      ]),
      ...CUDA_SUPPORT,
    ],
  },
  'darwin-arm64': {
    rust: 'aarch64-apple-darwin',
    os: 'darwin',
    cpu: 'arm64',
    library: (name) => `lib${name}.dylib`,
    libtorch: 'libtorch_cpu.dylib',
    tags: ['macosx_14_0_arm64'],
    wheels: [torch(['libtorch_cpu.dylib', 'libtorch.dylib', 'libc10.dylib', 'libomp.dylib'])],
  },
  'win32-x64-msvc': {
    rust: 'x86_64-pc-windows-msvc',
    os: 'win32',
    cpu: 'x64',
    library: (name) => `${name}.dll`,
    libtorch: 'torch_cpu.dll',
    tags: ['win_amd64'],
    wheels: [
      torch(
        ['torch_cpu.dll', 'torch.dll', 'c10.dll', 'libiomp5md.dll', 'uv.dll'],
        ['torch_cpu.lib', 'torch.lib', 'c10.lib'],
      ),
    ],
  },
}

/**
 * Options of pip that select wheels of a platform:
 * what is fetched must not depend on the Python that happens to be here.
 */
export function wheelSelection(tags) {
  const platforms = tags.map((tag) => `--platform=${tag}`)
  return ['--only-binary=:all:', '--implementation=cp', `--python-version=${WHEEL_PYTHON}`, ...platforms]
}

/** The platform of this machine, or undefined where the package is not published for it. */
export function hostTriple() {
  const { platform, arch, report } = process
  const libc = platform === 'linux' && report.getReport().header.glibcVersionRuntime !== undefined ? 'glibc' : undefined
  return Object.keys(PLATFORMS).find((triple) => {
    const { os, cpu, libc: wanted } = PLATFORMS[triple]
    return os === platform && cpu === arch && (wanted === undefined || wanted === libc)
  })
}
