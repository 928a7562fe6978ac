"""The build script: it compiles the kernels. All other settings of the package are in pyproject.toml.

Cython translates each source once. The C compiler then compiles the result for several levels of processors. The code
for Cython's memoryviews is in a separate module, `_cython`, which all kernels share. The modules use the limited API of
Python 3.11, so one wheel works with every later version.

Environment variables at build time:
    RCNN_REQUIRE_EXT=1   fail if a kernel cannot be compiled; by default, rcnn is then installed without this kernel
    RCNN_NO_EXT=1        compile no kernels
"""

import os
import runpy
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError
from setuptools.modified import newer_group

SOURCES = Path("rcnn", "_ext")
SHARED = "_cython"

# Run the table as a script, because the package cannot be imported before it is built.
TABLE = runpy.run_path(str(SOURCES / "table.py"))

# -fno-trapping-math and -fno-math-errno do not change any result. They allow the compiler to vectorise conditional
# divisions and square roots. -g0 makes compilation a fifth faster and the modules five times smaller.
FAST = {"unix": ["-O3", "-g0", "-fno-trapping-math", "-fno-math-errno"], "msvc": ["/O2", "/fp:precise"]}
ROUNDING = {"fast": FAST, "exact": {"unix": [*FAST["unix"], "-ffp-contract=off"], "msvc": FAST["msvc"]}}

# Python without the global interpreter lock has no limited API yet.
IS_LIMITED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

# -s removes the symbols that only a debugger needs. The linkers of other systems do not have this option.
LINK = {"unix": ["-pthread", *(["-Wl,-s"] if sys.platform == "linux" else [])], "msvc": []}

PLAIN_PROGRAM = "int main(void) { return 0; }\n"


class BuildKernels(build_ext):
    """Build command that compiles the kernels for every level of processors that the compiler supports."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = True  # one compiler process per processor

    def build_extensions(self):
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        levels = ["baseline"]
        if kind == "unix":
            levels += [
                level for level, flags in TABLE["LEVELS"].items() if flags and self.links(PLAIN_PROGRAM, list(flags))
            ]
        self.extensions = [extension for extension in self.extensions if extension.level in levels]
        self.done, self.lock = 0, threading.Lock()
        self.translate_all()
        for extension in self.extensions:
            extension.sources = [str(self.renamed(extension))]
            extension.extra_compile_args = [*extension.rounding[kind], *extension.level_flags]
            extension.extra_link_args = LINK[kind]
        # Compile the largest sources first, so that no processor waits for a large source at the end.
        self.extensions.sort(key=lambda extension: -Path(extension.sources[0]).stat().st_size)
        say(f"compiling {len(self.extensions)} modules for {', '.join(levels)}")
        super().build_extensions()

    def build_extension(self, extension):
        start = time.perf_counter()
        super().build_extension(extension)
        with self.lock:
            self.done += 1
            name = extension.name.rpartition(".")[2]
            say(f"{self.done:3d} of {len(self.extensions)}  {name:<16} {time.perf_counter() - start:5.1f} s")

    def translate_all(self):
        """Translate each source to C, in one Cython process per processor."""
        kernels = sorted({extension.kernel for extension in self.extensions})
        Path(self.build_temp).mkdir(parents=True, exist_ok=True)
        if kernels:
            say(f"translating {len(kernels)} sources to C")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.translate, kernels))

    def translate(self, kernel):
        """Translate the source of a kernel to C, unless the C file is newer than the source."""
        target, source = self.translated(kernel), SOURCES / f"{kernel}.pyx"
        command = [sys.executable, "-m", "cython", "-3", "--module-name", f"rcnn._ext.{kernel}"]
        if kernel == SHARED:
            command += ["--generate-shared", str(target)]
        else:
            command += ["--shared", f"rcnn._ext.{SHARED}", "--output-file", str(target), str(source)]
        sources = [str(path) for path in (source, *SOURCES.glob("*.pxd"), Path("setup.py")) if path.exists()]
        if newer_group(sources, str(target)):
            subprocess.run(command, check=True)

    def translated(self, kernel):
        return Path(self.build_temp, f"{kernel}.c")

    def renamed(self, extension):
        """Return the path of the C source of a module: the source of its kernel, with the name of the module inside."""
        source, name = self.translated(extension.kernel), extension.name.rpartition(".")[2]
        if name == extension.kernel:
            return source
        target = source.with_stem(name)
        if newer_group([str(source)], str(target)):
            code = source.read_text(encoding="utf-8")
            for pattern in ("PyInit_{}(", '"rcnn._ext.{}"'):
                code = code.replace(pattern.format(extension.kernel), pattern.format(name))
            target.write_text(code, encoding="utf-8")
        return target

    def links(self, program, flags):
        """Return whether a C program compiles and links with these compiler flags."""
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "program.c")
            source.write_text(program)
            try:
                objects = self.compiler.compile([str(source)], directory, extra_postargs=flags)
                self.compiler.link_executable(objects, str(source.with_suffix("")))
            except (CompileError, LinkError):
                return False
            return True


def say(text):
    """Print a line of progress."""
    print(f"rcnn: {text}", flush=True)


def module(kernel, rounding="exact", level="baseline"):
    """Return the extension module of a kernel for one level of processors.

    If it cannot be built, it is skipped, unless RCNN_REQUIRE_EXT=1.
    """
    extension = Extension(
        f"rcnn._ext.{kernel}" if level == "baseline" else f"rcnn._ext.{kernel}_{level}",
        [(SOURCES / f"{kernel}.pyx").as_posix()],
        depends=[path.as_posix() for path in sorted(SOURCES.glob("*.h"))],
        include_dirs=[SOURCES.as_posix()],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if IS_LIMITED else [],
        py_limited_api=IS_LIMITED,
        optional=os.environ.get("RCNN_REQUIRE_EXT") != "1",
    )
    extension.kernel, extension.rounding, extension.level = kernel, ROUNDING[rounding], level
    extension.level_flags = [*TABLE["LEVELS"][level], *TABLE["EXTRA_FLAGS"].get((kernel, level), ())]
    return extension


def modules():
    """Return the extension modules of all kernels, for all levels of each kernel."""
    if os.environ.get("RCNN_NO_EXT") == "1":
        return []
    compiled = [
        module(kernel, rounding, level)
        for kernel, rounding in TABLE["KERNELS"].items()
        for level in ("baseline", *TABLE["GAINS"].get(kernel, ()))
    ]
    return [module(SHARED), module("_build"), module("_threads"), *compiled]


setup(
    ext_modules=modules(),
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if IS_LIMITED else {},
)
