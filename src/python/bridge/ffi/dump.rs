//! The stack of a Python thread, without the GIL.
//!
//! The interpreter has functions for that, which `faulthandler` calls when a process dies: they
//! read what others may write at the same time, and may crash. So they read a copy: a process that
//! is forked for this alone, in which nothing moves, and which may crash without any harm. Where
//! there is no such function (it is not exported by 3.10 and from 3.13 on), or no such process,
//! there is no dump.

use pyo3::ffi;
use pyo3::prelude::*;

use crate::python::bridge::Thread;

/// What the interpreter knows the calling thread by.
pub(crate) fn thread_state(_py: Python<'_>) -> usize {
    // SAFETY: the GIL is held, so that there is one.
    unsafe { ffi::PyThreadState_Get() }.addr()
}

/// The dump of `thread`, or of the first of all threads where that is not known, as `faulthandler`
/// writes it; it takes a little while. Without the GIL.
#[cfg(target_os = "linux")]
pub(crate) fn dump(thread: &Thread) -> Option<String> {
    linux::dump(thread.state)
}

/// The dump, as `faulthandler` writes it; other systems have no process that is safe to read.
#[cfg(not(target_os = "linux"))]
pub(crate) fn dump(_thread: &Thread) -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::fs::File;
    use std::io::{Error, ErrorKind, Read};
    use std::mem::{MaybeUninit, transmute};
    use std::os::fd::{AsRawFd, RawFd};
    use std::ptr::null_mut;

    use pyo3::ffi;

    type DumpOne = unsafe extern "C" fn(c_int, *mut ffi::PyThreadState);

    type DumpAll = unsafe extern "C" fn(
        c_int,
        *mut ffi::PyInterpreterState,
        *mut ffi::PyThreadState,
    ) -> *const c_char;

    /// Those of the interpreter.
    #[derive(Clone, Copy)]
    struct Functions {
        one: Option<DumpOne>,
        all: DumpAll,
    }

    /// A dump has at most 100 threads of 100 frames.
    const MOST: u64 = 4 * 1024 * 1024;

    /// How long the copy lives at most, in seconds.
    const LIMIT: u32 = 5;

    /// What ends the copy: the time that it has, and crashes, which are the expected end where
    /// memory was torn.
    const ENDS: [c_int; 5] =
        [libc::SIGALRM, libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGFPE];

    pub(super) fn dump(thread: usize) -> Option<String> {
        let functions = functions()?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
        // SAFETY: a function without arguments, which reads one field that is set before any
        // extension is loaded.
        let interpreter = unsafe { ffi::PyInterpreterState_Main() };
        let child = without_signals(|| {
            // No flags: a copy of this process with this thread alone, as by `fork`, but without
            // what others have asked to be called then. No signal at its end: only who asks for it
            // by its number, and for such a process, hears of that.
            // SAFETY: without a stack of its own the new process goes on here, on its copy of ours.
            let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
            if child == 0 {
                // SAFETY: nothing of this process but the copy of its memory is used, and no lock.
                unsafe { write_and_end(functions, writer.as_raw_fd(), interpreter, thread) }
            }
            child
        });
        let child = libc::pid_t::try_from(child).ok().filter(|child| *child > 0)?;
        drop(writer);
        let mut text = Vec::new();
        let read = File::from(reader).take(MOST).read_to_end(&mut text);
        wait_for(child);
        read.ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Until it has ended; a signal to this thread does not leave it behind.
    fn wait_for(child: libc::pid_t) {
        let mut status = 0;
        // SAFETY: our own child, which nobody else waits for; `status` lives meanwhile.
        while unsafe { libc::waitpid(child, &mut status, libc::__WCLONE) } == -1
            && Error::last_os_error().kind() == ErrorKind::Interrupted
        {}
    }

    /// Does `act` while no signal reaches this thread, and so none a copy of it: a handler of this
    /// process would run there, and write to what both have.
    fn without_signals<R>(act: impl FnOnce() -> R) -> R {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both are written before they are read: `all` by `sigfillset`, which cannot fail,
        // `before` by the first `pthread_sigmask`, which fails for an unknown `how` alone.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            let done = act();
            libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), null_mut());
            done
        }
    }

    /// The interpreter's functions, if it shows them.
    fn functions() -> Option<Functions> {
        let (one, all) = (symbol(c"_Py_DumpTraceback"), symbol(c"_Py_DumpTracebackThreads")?);
        // SAFETY: they have had these signatures since Python 3.6, and those versions that might
        // change them do not export them.
        unsafe {
            Some(Functions {
                one: one.map(|one| transmute::<*mut c_void, DumpOne>(one)),
                all: transmute::<*mut c_void, DumpAll>(all),
            })
        }
    }

    fn symbol(name: &CStr) -> Option<*mut c_void> {
        // SAFETY: a name that ends with a zero; looking it up runs nothing.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        (!found.is_null()).then_some(found)
    }

    /// Writes the dump to `file`, and ends.
    ///
    /// # Safety
    /// In a process that was made for this, that nobody else lives in, and that no signal reaches.
    unsafe fn write_and_end(
        functions: Functions,
        file: RawFd,
        interpreter: *mut ffi::PyInterpreterState,
        thread: usize,
    ) -> ! {
        // SAFETY: system calls without memory of ours but a set of signals, and functions that are
        // made to be called in a signal handler: they allocate nothing and take no lock.
        unsafe {
            // Neither a message nor a file of a crash.
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
            let mut ends = MaybeUninit::uninit();
            libc::sigemptyset(ends.as_mut_ptr());
            for signal in ENDS {
                libc::signal(signal, libc::SIG_DFL);
                libc::sigaddset(ends.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_UNBLOCK, ends.as_ptr(), null_mut());
            libc::alarm(LIMIT);
            let mut state = ffi::PyInterpreterState_ThreadHead(interpreter);
            while !state.is_null() && state.addr() != thread {
                state = ffi::PyThreadState_Next(state);
            }
            match functions.one {
                Some(one) if !state.is_null() => one(file, state),
                _ => {
                    (functions.all)(file, interpreter, null_mut());
                }
            }
            libc::syscall(libc::SYS_exit_group, 0);
            libc::_exit(0)
        }
    }
}
