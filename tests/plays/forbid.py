"""Runs a program to which the kernel refuses one system call, as a container's seccomp profile does.

    forbid.py NUMBER ERRNO PROGRAM ARGUMENT...
"""

import ctypes
import os
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, FAIL_WITH = 0x7FFF0000, 0x00050000


class Instruction(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    ]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction))]


def prctl(*arguments):
    if ctypes.CDLL(None, use_errno=True).prctl(*arguments) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


number, errno = int(sys.argv[1]), int(sys.argv[2])
# The word at offset 0 of what a filter sees is the number of the system call.
instructions = (Instruction * 4)(
    Instruction(LOAD_WORD, 0, 0, 0),
    Instruction(JUMP_IF_EQUAL, 0, 1, number),
    Instruction(RETURN, 0, 0, FAIL_WITH | errno),
    Instruction(RETURN, 0, 0, ALLOW),
)
program = Program(len(instructions), instructions)
prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
os.execv(sys.argv[3], sys.argv[3:])
