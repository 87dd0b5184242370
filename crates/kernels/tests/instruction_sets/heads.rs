use crate::noise::{close, wide, Noise};
use crate::Case;
use drcorl_kernels::gemm::MatrixMut;
use drcorl_kernels::heads::{self, plain};
use drcorl_kernels::InstructionSet;

pub const CASES: &[Case] = &[
    ("heads::scalar_head", scalar_head),
    ("heads::scalar_head_backward", scalar_head_backward),
    ("heads::finish_gradients", finish_gradients),
];

const ROWS: usize = 7;
const WIDTHS: [usize; 3] = [1, 37, 64];

fn scalar_head(set: InstructionSet) -> Vec<f32> {
    const MEMBERS: usize = 3;
    let mut noise = Noise::new(1);
    let run = |width| {
        let mut out = noise.vector(ROWS * MEMBERS);
        for member in 0..MEMBERS {
            let (hidden, weight, bias) = (noise.active(ROWS * width), noise.vector(width), noise.normal());
            let mut wanted: Vec<f64> = wide(&out).collect();
            for (row, hidden) in hidden.chunks_exact(width).enumerate() {
                wanted[row * MEMBERS + member] = plain::scalar_head(hidden, &weight, bias);
            }
            let column = MatrixMut::new(&mut out[member..], [ROWS, 1], [MEMBERS, 1]);
            heads::scalar_head(set, &hidden, &weight, bias, column);
            close(&out, wanted, 1e-5);
        }
        out
    };
    WIDTHS.into_iter().flat_map(run).collect()
}

/// With the gradient of the weight and without.
fn scalar_head_backward(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(2);
    let run = |width| {
        let (hidden, weight, scale) = (noise.active(ROWS * width), noise.vector(width), noise.vector(ROWS));
        let rows = hidden.chunks_exact(width).zip(&scale);
        let wanted: Vec<_> = rows.map(|(hidden, &s)| plain::scalar_head_backward(hidden, &weight, s)).collect();
        let (mut grad, before) = (hidden.clone(), noise.vector(width));
        let mut for_weight = before.clone();
        heads::scalar_head_backward(set, &mut grad, &weight, &scale, Some(&mut for_weight));
        close(&grad, wanted.iter().flat_map(|[input, _]| input.iter().copied()), 1e-6);
        let sum = |i: usize| wanted.iter().map(|[_, weight]| weight[i]).sum::<f64>();
        close(&for_weight, wide(&before).enumerate().map(|(i, before)| before + sum(i)), 1e-5);
        let mut alone = hidden.clone();
        heads::scalar_head_backward(set, &mut alone, &weight, &scale, None);
        assert_eq!(alone, grad, "without a weight");
        [grad, for_weight].concat()
    };
    WIDTHS.into_iter().flat_map(run).collect()
}

fn finish_gradients(set: InstructionSet) -> Vec<f32> {
    let mut noise = Noise::new(3);
    let run = |width| {
        let units = 5;
        let [weight, g] = [(); 2].map(|()| noise.vector(units * width));
        let [bias, head, t] = [(); 3].map(|()| noise.vector(units));
        let (mut for_weight, mut for_bias, mut for_head) = (g.clone(), t.clone(), vec![f32::NAN; units]);
        heads::finish_gradients(set, [&weight, &bias, &head], &mut for_weight, &mut for_bias, &mut for_head);
        close(&for_weight, wide(&g).enumerate().map(|(i, g)| g * f64::from(head[i / width])), 1e-6);
        close(&for_bias, wide(&t).zip(wide(&head)).map(|(t, w)| t * w), 1e-6);
        let products = |unit: usize| (unit * width..(unit + 1) * width).map(|i| f64::from(weight[i]) * f64::from(g[i]));
        close(&for_head, (0..units).map(|i| products(i).sum::<f64>() + f64::from(bias[i]) * f64::from(t[i])), 2e-5);
        [for_weight, for_bias, for_head].concat()
    };
    WIDTHS.into_iter().flat_map(run).collect()
}
