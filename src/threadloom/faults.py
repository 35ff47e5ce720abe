"""Named points at which tests let this process fail. Off unless `THREADLOOM_FAULT` names one."""
