//! The part of WASI that Rust's standard library needs in Envoy: clocks, environment, random bytes, stderr.

use wasmtime::{AsContextMut, Caller, Linker, Result, bail};

use super::abi::write_log;
use super::memory::{read, write, write_u32};
use super::vm::{Cx, Vm};

type C<'a> = Caller<'a, Vm>;
type Errno = Result<(), u32>;

const BADF: u32 = 8;
const FAULT: u32 = 21;
const NOTSUP: u32 = 58;

/// Links the calls that do something.
pub fn link(l: &mut Linker<Vm>) -> Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    l.func_wrap(
        WASI,
        "clock_time_get",
        |mut c: C<'_>, clock: u32, _precision: u64, at: u32| {
            errno(clock_time(&mut c.as_context_mut(), clock, at))
        },
    )?;
    l.func_wrap(
        WASI,
        "environ_sizes_get",
        |mut c: C<'_>, count_at: u32, size_at: u32| {
            errno(environ_sizes(&mut c.as_context_mut(), count_at, size_at))
        },
    )?;
    l.func_wrap(
        WASI,
        "environ_get",
        |mut c: C<'_>, pointers_at: u32, at: u32| {
            errno(environ(&mut c.as_context_mut(), pointers_at, at))
        },
    )?;
    l.func_wrap(WASI, "random_get", |mut c: C<'_>, at: u32, size: u32| {
        errno(random(&mut c.as_context_mut(), at, size))
    })?;
    l.func_wrap(
        WASI,
        "fd_write",
        |mut c: C<'_>, fd: u32, pieces: u32, count: u32, size_at: u32| {
            errno(fd_write(
                &mut c.as_context_mut(),
                fd,
                pieces,
                count,
                size_at,
            ))
        },
    )?;
    l.func_wrap(WASI, "sched_yield", |_: C<'_>| 0_u32)?;
    l.func_wrap(WASI, "proc_exit", |_: C<'_>, status: u32| -> Result<()> {
        bail!("proc_exit({status})")
    })?;
    Ok(())
}

fn errno(result: Errno) -> u32 {
    result.err().unwrap_or(0)
}

fn clock_time(cx: &mut Cx<'_>, clock: u32, at: u32) -> Errno {
    let now = match clock {
        0 => cx.data().hub.clock.wall(),
        1 => cx.data().hub.clock.monotonic(),
        _ => return Err(NOTSUP),
    };
    write(cx, at, &now.to_le_bytes()).map_err(|_| FAULT)
}

fn variables(cx: &Cx<'_>) -> Vec<Vec<u8>> {
    let environment = cx.data().hub.environment.borrow();
    environment
        .iter()
        .map(|(name, value)| format!("{name}={value}\0").into_bytes())
        .collect()
}

fn environ_sizes(cx: &mut Cx<'_>, count_at: u32, size_at: u32) -> Errno {
    let variables = variables(cx);
    let size = variables.iter().map(Vec::len).sum::<usize>();
    write_u32(cx, count_at, variables.len() as u32).map_err(|_| FAULT)?;
    write_u32(cx, size_at, size as u32).map_err(|_| FAULT)
}

fn environ(cx: &mut Cx<'_>, mut pointers_at: u32, mut at: u32) -> Errno {
    for variable in variables(cx) {
        write_u32(cx, pointers_at, at).map_err(|_| FAULT)?;
        write(cx, at, &variable).map_err(|_| FAULT)?;
        pointers_at += 4;
        at += variable.len() as u32;
    }
    Ok(())
}

/// The same bytes in every run: a failure can be seen again.
fn random(cx: &mut Cx<'_>, at: u32, size: u32) -> Errno {
    let mut bytes = Vec::new();
    for _ in 0..size {
        let seed = &mut cx.data_mut().random;
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.push((*seed >> 33) as u8);
    }
    write(cx, at, &bytes).map_err(|_| FAULT)
}

fn fd_write(cx: &mut Cx<'_>, fd: u32, pieces: u32, count: u32, size_at: u32) -> Errno {
    let level = match fd {
        1 => 2,
        2 => 4,
        _ => return Err(BADF),
    };
    let mut text = Vec::new();
    for piece in 0..count {
        let entry = read(cx, pieces + piece * 8, 8).map_err(|_| FAULT)?;
        let word =
            |i: usize| u32::from_le_bytes([entry[i], entry[i + 1], entry[i + 2], entry[i + 3]]);
        text.extend(read(cx, word(0), word(4)).map_err(|_| FAULT)?);
    }
    write_log(
        cx,
        level,
        String::from_utf8_lossy(&text).trim_end().to_owned(),
    );
    write_u32(cx, size_at, text.len() as u32).map_err(|_| FAULT)
}
