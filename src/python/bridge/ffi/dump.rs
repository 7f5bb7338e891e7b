//! The stacks of all Python threads, without the GIL.
//!
//! The interpreter has a function for that, which `faulthandler` calls when a process dies: it
//! reads what others may write at the same time, and may crash. So it reads a copy: a process that
//! is forked for this alone, in which nothing moves, and which may crash without any harm. Where
//! there is no such function (it is not exported by 3.10 and from 3.13 on), or no such process,
//! there is no dump.

/// The dump, as `faulthandler` writes it; it takes a little while. Without the GIL.
#[cfg(target_os = "linux")]
pub(crate) fn dump_threads() -> Option<String> {
    linux::dump_threads()
}

/// The dump, as `faulthandler` writes it; other systems have no process that is safe to read.
#[cfg(not(target_os = "linux"))]
pub(crate) fn dump_threads() -> Option<String> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{c_char, c_int};
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsRawFd, RawFd};

    use pyo3::ffi;

    type Dump = unsafe extern "C" fn(
        c_int,
        *mut ffi::PyInterpreterState,
        *mut ffi::PyThreadState,
    ) -> *const c_char;

    /// A dump has at most 100 threads of 100 frames.
    const MOST: u64 = 4 * 1024 * 1024;

    /// How long the copy lives at most, in seconds.
    const LIMIT: u32 = 5;

    pub(super) fn dump_threads() -> Option<String> {
        let dump = function()?;
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
        // SAFETY: a function without arguments, which reads one field that is set before any
        // extension is loaded.
        let interpreter = unsafe { ffi::PyInterpreterState_Main() };
        // No flags: a copy of this process with this thread alone, as by `fork`, but without what
        // others have asked to be called then. No signal at its end: only who asks for it by its
        // number, and for such a process, hears of that.
        // SAFETY: without a stack of its own the new process goes on here, on its copy of ours.
        let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
        match child {
            // SAFETY: nothing of this process but the copy of its memory is used, and no lock.
            0 => unsafe { write_and_end(dump, writer.as_raw_fd(), interpreter) },
            child if child > 0 => {
                drop(writer);
                let mut text = Vec::new();
                let read = File::from(reader).take(MOST).read_to_end(&mut text);
                let mut status = 0;
                #[allow(clippy::cast_possible_truncation)] // the number of a process
                // SAFETY: our own child, which nobody else waits for; `status` lives meanwhile.
                unsafe {
                    libc::waitpid(child as libc::pid_t, &mut status, libc::__WCLONE);
                }
                read.ok()?;
                Some(String::from_utf8_lossy(&text).into_owned())
            }
            _ => None,
        }
    }

    /// The interpreter's function, if it shows it.
    fn function() -> Option<Dump> {
        // SAFETY: a name that ends with a zero; looking it up runs nothing.
        let found =
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"_Py_DumpTracebackThreads".as_ptr()) };
        if found.is_null() {
            return None;
        }
        // SAFETY: it has had this signature since Python 3.6, and those versions that might change
        // it do not export it.
        Some(unsafe { std::mem::transmute::<*mut libc::c_void, Dump>(found) })
    }

    /// Writes the dump to `file`, and ends.
    ///
    /// # Safety
    /// In a process that was made for this, and that nobody else lives in.
    unsafe fn write_and_end(
        dump: Dump,
        file: RawFd,
        interpreter: *mut ffi::PyInterpreterState,
    ) -> ! {
        // SAFETY: system calls without memory of ours, and a function that is made to be called
        // in a signal handler: it allocates nothing and takes no lock.
        unsafe {
            // A crash is the expected end where memory was torn: neither a message nor a file.
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGFPE, libc::SIGALRM]
            {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::alarm(LIMIT);
            dump(file, interpreter, std::ptr::null_mut());
            libc::syscall(libc::SYS_exit_group, 0);
            libc::_exit(0)
        }
    }
}
