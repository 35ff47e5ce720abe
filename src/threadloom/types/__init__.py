"""The API's own objects: `Run` is what we send, `RunCreate` what we receive. One file per object."""
