"""Every limit that both sides must agree on, once."""

from __future__ import annotations

NAME_LENGTH = 128
DESCRIPTION_LENGTH = 1000
URL_LENGTH = 2048
USERNAME_LENGTH = 64
EMAIL_LENGTH = 254
PASSWORD_MIN_LENGTH = 4  # the tutorial's; only development servers take it
REAL_PASSWORD_MIN_LENGTH = 12  # everywhere else
PASSWORD_LENGTH = 256
FILES_PER_MLCUBE = 16
URLS_PER_FILE = 8

MANIFEST_BYTES = 64 * 1024
PARAMETERS_BYTES = 1024 * 1024
METRICS_BYTES = 1024 * 1024
STATISTICS_BYTES = 1024 * 1024
BODY_BYTES = 2 * 1024 * 1024
METADATA_BYTES = 64 * 1024
ASSET_BYTES = 64 * 1024**3

DOCUMENT_DEPTH = 32
DOCUMENT_NODES = 100_000
DOCUMENT_INT_DIGITS = 18
MANIFEST_NODES = 10_000

METRIC_KEYS = 1000
METRIC_KEY_LENGTH = 128
METRIC_DECIMALS = 10

STATISTIC_KEYS = 1000
STATISTIC_KEYS_ALONE = 200  # of a dataset without a benchmark, where no contract says what they are called
STATISTIC_NUMBERED = 100  # names side by side that differ in digits only
STATISTIC_WORDS = 256
STATISTIC_DIGITS = 15  # all of a number's; a float holds as many exactly
STATISTIC_DECIMALS = 6

POLICY_BYTES = 64 * 1024
POLICY_ENTRIES = 1000  # of one list
RESULT_CELLS = 1_000_000  # of a benchmark's table
RESULTS_PAGE = 10_000  # of a benchmark's results: rows, and
RESULTS_PAGE_BYTES = 8 * 1024 * 1024

ID_MAX = 2**31 - 1
PAGE_DEFAULT = 32
PAGE_MAX = 256
PAGE_BYTES = 2 * 1024 * 1024  # of a listing's answer; one thing is always in it

ARCHIVE_BYTES = 64 * 1024**3
ARCHIVE_ENTRIES = 1_000_000
WHEEL_BYTES = 4 * 1024**3  # of one package
ARCHIVE_PATH_BYTES = 1024
ARCHIVE_RATIO = 250

MLCUBES_PER_OWNER = 10_000
BENCHMARKS_PER_OWNER = 1000
DATASETS_PER_OWNER = 10_000
ASSOCIATIONS_PER_OWNER = 10_000  # that it asked for or invited to
JOINED_PER_BENCHMARK = 1000  # datasets approved at once, and so many models
ASSETS_PER_OWNER = 10_000
OWNER_BYTES = 1024**4  # of all its assets and unfinished uploads
UPLOADS_PER_OWNER = 32  # unfinished at once
LOGINS_PER_ACCOUNT = 100
LOG_BYTES = 256 * 1024**2  # of the server's log, and as much again of the one before
CHANGES_AT_ONCE = 50_000  # of one account, and so many an hour after that
CHANGES_PER_HOUR = 3600

ORGANISATIONS_PER_USER = 64  # made by, and belonged to by, one account
ORGANISATION_MEMBERS = 256
ORGANISATION_INVITATIONS = 64  # open at once
INVITATION_DAYS = 14

ASSOCIATION_ASKS = 64  # of one asset in one benchmark, ended ones included
AUTO_APPROVED_PARTIES = 256
PRIORITY_MAX = 1_000_000
EXECUTIONS_PER_OWNER = 1_000_000
ATTEMPTS_PER_EXECUTION = 256
LOST_AFTER_SECONDS = 300  # without a heartbeat
HEARTBEAT_SECONDS = 60  # between two
REASON_LENGTH = 500
