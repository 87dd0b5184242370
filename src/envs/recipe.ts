/**
 * The suites of environments that can be installed, each with every package it needs at one version. All of them fit
 * into one virtual environment. Nothing is left to pip's choice, because the choices are wrong: an open `pettingzoo`
 * brings a Gymnasium that breaks safety-gymnasium, and safety-gymnasium itself asks for a pygame that no wheel exists
 * of and that it never imports.
 */

export type SuiteName = 'bullet_safety_gym' | 'safety_gymnasium'

export interface Suite {
  /** Shown to the user. */
  label: string
  packages: readonly string[]
  /** Environments that are stepped to see that the suite works: ids in Gymnasium's registry. */
  probes: readonly string[]
}

/** Versions of Python with wheels of all packages, best first. */
export const PYTHON_VERSIONS: readonly string[] = ['3.11', '3.10']

const GYMNASIUM = [
  'gymnasium==0.28.1',
  'numpy==1.23.5',
  'cloudpickle==3.1.2',
  'Farama-Notifications==0.0.6',
  'jax-jumpy==1.0.0',
  'typing_extensions==4.16.0',
]

export const SUITES: Readonly<Record<SuiteName, Suite>> = {
  bullet_safety_gym: {
    label: 'Bullet-Safety-Gym 1.4.0',
    packages: [...GYMNASIUM, 'pybullet==3.2.7', 'bullet-safety-gym==1.4.0'],
    probes: ['SafetyBallCircle-v0', 'SafetyCarRun-v0'],
  },
  safety_gymnasium: {
    label: 'Safety-Gymnasium 1.0.0',
    packages: [
      ...GYMNASIUM,
      'mujoco==2.3.3',
      'absl-py==2.5.1',
      'PyOpenGL==3.1.10',
      'glfw==2.11.0',
      'gymnasium-robotics==1.2.2',
      'pettingzoo==1.23.1',
      'Jinja2==3.1.6',
      'MarkupSafe==3.0.4',
      'xmltodict==1.0.4',
      'PyYAML==6.0.3',
      'imageio==2.38.1; python_version >= "3.11"',
      'imageio==2.37.4; python_version < "3.11"',
      'pillow==12.3.0',
      'safety-gymnasium==1.0.0',
    ],
    probes: ['SafetyPointGoal1Gymnasium-v0', 'SafetyHopperVelocityGymnasium-v1'],
  },
}

export const SUITE_NAMES = Object.keys(SUITES) as SuiteName[]
