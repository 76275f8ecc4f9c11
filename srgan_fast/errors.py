"""Exceptions that a user can act on: one line that says what was wrong, with which value, and what to do."""


class SrganFastError(Exception):
    """Base class of all deliberate errors; the command line prints the text and exits non-zero."""


class ModelError(SrganFastError):
    """A model file, name or architecture cannot be used."""


class DownloadError(SrganFastError):
    """A model could not be downloaded."""


class FileError(SrganFastError):
    """A file cannot be written."""


class ImageError(SrganFastError):
    """An image cannot be read, written or processed."""


class DataError(SrganFastError):
    """A folder or set of images cannot be used for training or evaluation."""


class BackendError(SrganFastError):
    """A backend is missing or does not support the request."""


class UsageError(SrganFastError):
    """Invalid or incompatible options or arguments."""


class TrainingError(SrganFastError):
    """A training run cannot start or continue: its configuration, its checkpoint, or losses that are not finite."""
