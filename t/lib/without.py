#!/usr/bin/python3
"""without.py CALL[,CALL...] ERRNO COMMAND...: runs COMMAND on a kernel that answers these system calls with this error."""
import ctypes
import errno
import os
import struct
import sys

NUMBERS = {"x86_64": {"seccomp": 317, "prctl": 157, "landlock_create_ruleset": 444, "openat2": 437},
           "aarch64": {"seccomp": 277, "prctl": 167, "landlock_create_ruleset": 444, "openat2": 437}}[os.uname().machine]
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38


def rows(calls, number):
    """Loads the call's number; each of the calls jumps to the refusal at the end. prctl: PR_SET_SECCOMP alone."""
    out = [(0x20, 0, 0, 0)]
    plain = [NUMBERS[c] for c in calls if c != "prctl"]
    for i, nr in enumerate(plain):
        out.append((0x15, len(plain) - i, 0, nr))
    out += [(0x06, 0, 0, 0x7fff0000), (0x06, 0, 0, 0x00050000 | number)]
    if "prctl" in calls:
        out[-2:] = [(0x15, 0, 2, NUMBERS["prctl"]), (0x20, 0, 0, 16), (0x15, 1, 0, PR_SET_SECCOMP)] + out[-2:]
        out[1:1 + len(plain)] = [(0x15, len(plain) - i + 3, 0, nr) for i, nr in enumerate(plain)]
    return out


def main():
    calls, number = sys.argv[1].split(","), getattr(errno, sys.argv[2])
    code = b"".join(struct.pack("<HBBI", *r) for r in rows(calls, number))
    program = ctypes.create_string_buffer(code, len(code))
    fprog = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, 2, ctypes.addressof(fprog), 0, 0):
        sys.exit("without.py: %s" % os.strerror(ctypes.get_errno()))
    os.execvp(sys.argv[3], sys.argv[3:])


main()
