//! Which instructions a kernel may use, and how one body is compiled for all of them.

/// What of a processor's vector instructions a kernel uses. A value is proof that this processor has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionSet(pub(crate) Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl InstructionSet {
    /// What the compiler's target guarantees: SSE2 on x86-64, NEON on AArch64.
    pub const PORTABLE: InstructionSet = InstructionSet(Level::Portable);

    /// Every name there is on any processor, the slowest first.
    pub const NAMES: [&str; 3] = ["portable", "avx2", "avx512"];

    /// The one of that name; none where there is no such name or this processor has not got it.
    ///
    /// `avx2` is AVX2 with FMA; `avx512` is F, VL and DQ on top of that.
    pub fn named(name: &str) -> Option<InstructionSet> {
        match name {
            "portable" => Some(InstructionSet::PORTABLE),
            #[cfg(target_arch = "x86_64")]
            "avx2" if avx2() => Some(InstructionSet(Level::Avx2)),
            #[cfg(target_arch = "x86_64")]
            "avx512" if avx512() => Some(InstructionSet(Level::Avx512)),
            _ => None,
        }
    }

    /// The fastest one of this processor.
    #[inline]
    pub fn best() -> InstructionSet {
        #[cfg(target_arch = "x86_64")]
        {
            if avx512() {
                return InstructionSet(Level::Avx512);
            }
            if avx2() {
                return InstructionSet(Level::Avx2);
            }
        }
        InstructionSet::PORTABLE
    }

    /// Its name in [`InstructionSet::NAMES`].
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && avx2()
}

/// The features of this processor by which kernels are chosen; none on other processors than x86-64.
pub fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    return [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ]
    .into_iter()
    .filter_map(|(name, found)| found.then_some(name))
    .collect();
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// Compiles a function's body for every [`InstructionSet`] and runs the one that its first argument, `set`, names.
///
/// In the body, `FMA` says whether the processor fuses multiplication and addition; see [`crate::sums::multiply_add`].
/// The functions it calls must be `#[inline(always)]`, or they are compiled for the target alone; so are closures.
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(set: $crate::InstructionSet, $($arg: $ty),*) $(-> $result)? {
            use $crate::instruction_set::Level;
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn generic<const FMA: bool>($($arg: $ty),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $result)? { generic::<true>($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $result)? { generic::<true>($($arg),*) }
            match set.0 {
                // SAFETY: an instruction set is proof of its features.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                Level::Portable => generic::<false>($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;
