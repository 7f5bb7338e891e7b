//! Which task runs on a loop: asyncio keeps that, and lets whoever runs tasks say so.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// asyncio's functions for whoever runs tasks.
pub(crate) struct Tasks {
    current: Py<PyAny>,
    enter: Py<PyAny>,
    leave: Py<PyAny>,
    /// The current task of each loop, where asyncio's functions keep it in a dict that one can
    /// get at: they look it up four times for what is one exchange.
    record: Option<Py<PyDict>>,
}

impl Tasks {
    pub(crate) fn get(py: Python<'_>) -> PyResult<&'static Tasks> {
        static TASKS: PyOnceLock<Tasks> = PyOnceLock::new();
        TASKS.get_or_try_init(py, || {
            let module = py.import("asyncio.tasks")?;
            let function = |name: &str| Ok::<_, PyErr>(module.getattr(name)?.unbind());
            let mut tasks = Tasks {
                current: function("current_task")?,
                enter: function("_enter_task")?,
                leave: function("_leave_task")?,
                record: None,
            };
            tasks.record = module
                .getattr("_current_tasks")
                .ok()
                .and_then(|record| record.cast_into_exact::<PyDict>().ok())
                .filter(|record| tasks.go_by(record).unwrap_or(false))
                .map(Bound::unbind);
            Ok(tasks)
        })
    }

    /// Whether asyncio's functions keep the current tasks in `record`: tried with a loop and
    /// tasks that are none.
    fn go_by(&self, record: &Bound<'_, PyDict>) -> PyResult<bool> {
        let py = record.py();
        let stand_in = || py.import("builtins")?.call_method0("object");
        let (event_loop, one, other) = (stand_in()?, stand_in()?, stand_in()?);
        self.enter.call1(py, (&event_loop, &one))?;
        let tried = || {
            let entered = record.get_item(&event_loop)?.is_some_and(|found| found.is(&one));
            if entered {
                record.set_item(&event_loop, &other)?;
            }
            let current = self.current.call1(py, (&event_loop,))?;
            PyResult::Ok((entered && current.is(&other), current))
        };
        let (exchanged, current) = tried().unwrap_or_else(|_| (false, one.clone().unbind()));
        self.leave.call1(py, (&event_loop, current))?;
        Ok(exchanged && record.get_item(&event_loop)?.is_none())
    }

    /// The task that runs on `event_loop`, if one does.
    pub(crate) fn current<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = event_loop.py();
        if let Some(record) = &self.record {
            return record.bind(py).get_item(event_loop);
        }
        let current = self.current.bind(py).call1((event_loop,))?;
        Ok((!current.is_none()).then_some(current))
    }

    /// Whether a task runs on `event_loop`, and no other task in this process: false, too, where
    /// that is not known.
    pub(crate) fn runs_alone(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.record.as_ref().is_some_and(|record| {
            let record = record.bind(event_loop.py());
            record.len() == 1 && record.contains(event_loop).unwrap_or(false)
        })
    }

    /// Has `next` run in the place of `current`; none stands for no task.
    pub(crate) fn exchange(
        &self,
        event_loop: &Bound<'_, PyAny>,
        current: Option<&Bound<'_, PyAny>>,
        next: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        if let Some(record) = &self.record {
            let record = record.bind(py);
            return match next {
                Some(next) => record.set_item(event_loop, next),
                None => record.del_item(event_loop),
            };
        }
        if let Some(current) = current {
            self.leave.bind(py).call1((event_loop, current))?;
        }
        if let Some(next) = next {
            self.enter.bind(py).call1((event_loop, next))?;
        }
        Ok(())
    }
}
