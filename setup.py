"""The build script, which compiles the extension modules and copies the notebooks of the course into the package.

All other settings of the package are in pyproject.toml.

Environment variables at build time:
    RCNN_REQUIRE_EXT=1   fail if a kernel cannot be compiled; by default, rcnn is then installed without this kernel
    RCNN_NO_EXT=1        compile no kernels
"""

import os
import runpy
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError, LinkError

NOTEBOOKS = Path("notebooks", "src")
SOURCES = Path("rcnn", "_ext")

# Run the table as a script, because the package cannot be imported before it is built.
TABLE = runpy.run_path(str(SOURCES / "table.py"))

# -fno-trapping-math and -fno-math-errno do not change any result. They allow the compiler to vectorise conditional
# divisions and square roots.
FAST = {"unix": ["-O3", "-fno-trapping-math", "-fno-math-errno"], "msvc": ["/O2", "/fp:precise"]}
ROUNDING = {"fast": FAST, "exact": {"unix": [*FAST["unix"], "-ffp-contract=off"], "msvc": FAST["msvc"]}}

PLAIN_PROGRAM = "int main(void) { return 0; }\n"


class BuildKernels(build_ext):
    """Compile the kernels for every level of processors that the compiler knows."""

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
        print(f"rcnn: compiling the kernels for {', '.join(levels)}")
        self.extensions = [extension for extension in self.extensions if extension.level in levels]
        for extension in self.extensions:
            extension.extra_compile_args = [*extension.rounding[kind], *extension.level_flags]
            extension.extra_link_args = ["-pthread"] if kind == "unix" else []
            self.translate(extension)
        super().build_extensions()

    def translate(self, extension):
        """Translate the source to C, in a separate directory for each module, because modules can share a source.

        The translation is sequential, because Cython cannot run in several threads. The C compilers, which take most of
        the time, run in parallel.
        """
        extension.sources = cythonize(extension, build_dir=str(Path(self.build_temp, extension.name)))[0].sources

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


def kernel(name, rounding, level="baseline"):
    """Return a kernel for one level of processors; if it cannot be built, it is skipped unless RCNN_REQUIRE_EXT=1."""
    extension = Extension(
        f"rcnn._ext.{name}" if level == "baseline" else f"rcnn._ext.{name}_{level}",
        [(SOURCES / f"{name}.pyx").as_posix()],
        depends=[path.as_posix() for pattern in ("*.h", "*.pxd") for path in sorted(SOURCES.glob(pattern))],
        optional=os.environ.get("RCNN_REQUIRE_EXT") != "1",
    )
    extension.rounding, extension.level = ROUNDING[rounding], level
    extension.level_flags = [*TABLE["LEVELS"][level], *TABLE["EXTRA_FLAGS"].get((name, level), ())]
    return extension


def kernels():
    """Return every kernel for every level of processors that a compiler may support."""
    if os.environ.get("RCNN_NO_EXT") == "1":
        return []
    compiled = [kernel(*item, level) for item in TABLE["KERNELS"].items() for level in TABLE["LEVELS"]]
    return [kernel("_build", "exact"), kernel("_threads", "exact"), *compiled]


class BuildPackage(build_py):
    """Copy the sources of the notebooks into the package, where `rcnn course export` finds them."""

    def run(self):
        super().run()
        if not self.editable_mode:  # an editable install reads them from notebooks/src
            target = Path(self.build_lib, "rcnn", "course", "src")
            self.mkpath(str(target))
            for source in sorted(NOTEBOOKS.glob("*.py")):
                self.copy_file(str(source), str(target / source.name))


setup(ext_modules=kernels(), cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage})
