"""Exceptions that a user can act on: one line that says what was wrong, with which value, and what to do."""


class SrganFastError(Exception):
    """Base of every error that srgan_fast raises on purpose; the command line prints its text and exits non-zero."""


class ModelError(SrganFastError):
    """A model file, name or architecture that cannot be used."""


class DownloadError(SrganFastError):
    """A model that could not be downloaded."""


class FileError(SrganFastError):
    """A file that cannot be written."""


class ImageError(SrganFastError):
    """An image that cannot be read, written or processed."""


class DataError(SrganFastError):
    """A folder or set of images that cannot be used for training or evaluation."""


class BackendError(SrganFastError):
    """A runtime that is missing, or that cannot do what was asked of it."""


class UsageError(SrganFastError):
    """Options or arguments that do not fit together."""


class TrainingError(SrganFastError):
    """A run that cannot start or go on: its configuration, its checkpoint, or losses that are not finite."""
