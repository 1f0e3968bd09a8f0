//! A tile of the product with AMX: Rust has no stable functions for it, so it is assembly.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;

use super::{BLOCK_DEPTH, Block, LINES, Operands};

/// Bytes of a row of a tile register.
const ROW_BYTES: usize = BLOCK_DEPTH * 2;

/// Whether the CPU has AMX for bfloat16, the operating system saves its registers, and lets this process use them.
pub(super) fn is_present() -> bool {
    // Leaf 7: bit 22 of edx is AMX-BF16, bit 24 AMX-TILE. Bits 17 and 18 of XCR0 are the configuration and the data of tiles.
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const OSXSAVE: u32 = 1 << 27;
    const XCR0_TILES: u64 = 0b11 << 17;
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    let has = __cpuid_count(7, 0).edx;
    // SAFETY: `xgetbv` is there where OSXSAVE is set.
    let saved = unsafe { enabled_state() };
    has & BF16 != 0 && has & TILE != 0 && saved & XCR0_TILES == XCR0_TILES && is_permitted()
}

#[target_feature(enable = "xsave")]
unsafe fn enabled_state() -> u64 {
    // SAFETY: the caller saw that the instruction is there.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the tiles' registers, once for all threads of the process: without it, it ends processes that use them.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this call reads no memory.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Other systems have other ways to ask, which are not tried.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The 64 bytes that configure tile registers.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// While it exists, this thread's tile registers are 16 rows of 64 bytes each. Tiles are data of the thread, so it stays there.
pub(super) struct Configured(PhantomData<*const ()>);

impl Configured {
    /// Only called where [`is_present`].
    pub(super) fn new() -> Self {
        let mut configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        configuration.row_bytes[..8].fill(ROW_BYTES as u16);
        configuration.rows[..8].fill(LINES as u8);
        // SAFETY: the instruction reads the 64 bytes, and no Rust code uses tile registers.
        unsafe {
            asm!(
                "ldtilecfg [{configuration}]",
                configuration = in(reg) &raw const configuration,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, readonly),
            );
        }
        Self(PhantomData)
    }
}

impl Drop for Configured {
    /// Frees the registers, so that the operating system need not save them.
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe {
            asm!(
                "tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, preserves_flags, nomem),
            );
        }
    }
}

/// `to = from + A B`, 32 x 32 numbers.
///
/// # Safety
///
/// Tiles must be [`Configured`], and all pointers reach over a whole tile.
pub(super) unsafe fn tile(operands: &Operands, from: Option<(*const f32, usize)>, to: (*mut f32, usize)) {
    debug_assert!(operands.blocks > 0);
    let (from, from_stride) = from.unwrap_or((std::ptr::null(), 0));
    // SAFETY: the caller's promise; all that is read and written is within the pointers' tiles.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {from}, {from}",
            "jz 2f",
            "tileloadd tmm0, [{from} + {from_bytes}]",
            "tileloadd tmm1, [{from} + {from_bytes} + 64]",
            "shl {from_bytes}, 4",
            "add {from}, {from_bytes}",
            "shr {from_bytes}, 4",
            "tileloadd tmm2, [{from} + {from_bytes}]",
            "tileloadd tmm3, [{from} + {from_bytes} + 64]",
            "2:",
            "tileloadd tmm4, [{a0} + {row_bytes}]",
            "tileloadd tmm6, [{b0} + {b_bytes}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b1} + {b_bytes}]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {row_bytes}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "add {a0}, {step}",
            "add {a1}, {step}",
            "add {b0}, {block_bytes}",
            "add {b1}, {block_bytes}",
            "dec {blocks}",
            "jnz 2b",
            "tilestored [{to} + {to_bytes}], tmm0",
            "tilestored [{to} + {to_bytes} + 64], tmm1",
            "shl {to_bytes}, 4",
            "add {to}, {to_bytes}",
            "shr {to_bytes}, 4",
            "tilestored [{to} + {to_bytes}], tmm2",
            "tilestored [{to} + {to_bytes} + 64], tmm3",
            from = inout(reg) from => _,
            from_bytes = inout(reg) from_stride * size_of::<f32>() => _,
            to = inout(reg) to.0 => _,
            to_bytes = inout(reg) to.1 * size_of::<f32>() => _,
            a0 = inout(reg) operands.a[0] => _,
            a1 = inout(reg) operands.a[1] => _,
            b0 = inout(reg) operands.b[0] => _,
            b1 = inout(reg) operands.b[1] => _,
            row_bytes = in(reg) operands.row_bytes,
            b_bytes = in(reg) ROW_BYTES,
            step = in(reg) operands.step_bytes,
            blocks = inout(reg) operands.blocks => _,
            block_bytes = const size_of::<Block>(),
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        );
    }
}
