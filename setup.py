"""The extension modules and the course's notebooks; everything else about the package is in pyproject.toml.

Environment at build time:
    RCNN_REQUIRE_EXT=1   a kernel that cannot be compiled is an error; without it the package installs on NumPy alone
    RCNN_NO_EXT=1        no kernels are compiled
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

# The table is read by itself: the package cannot be imported before it is built.
TABLE = runpy.run_path(str(SOURCES / "table.py"))

# -fno-trapping-math and -fno-math-errno change no value; they let the compiler vectorise a conditional division and a
# square root.
FAST = {"unix": ["-O3", "-fno-trapping-math", "-fno-math-errno"], "msvc": ["/O2", "/fp:precise"]}
ROUNDING = {"fast": FAST, "exact": {"unix": [*FAST["unix"], "-ffp-contract=off"], "msvc": FAST["msvc"]}}

# What to try, in order: flags for the compiler and for the linker. The second is Apple's clang with libomp.
OPENMP = {
    "unix": [(["-fopenmp"], ["-fopenmp"]), (["-Xpreprocessor", "-fopenmp"], ["-lomp"])],
    "msvc": [(["/openmp"], [])],
}
OPENMP_PROGRAM = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
PLAIN_PROGRAM = "int main(void) { return 0; }\n"


class BuildKernels(build_ext):
    """Compiles the kernels with the flags that the compiler at hand understands, and with OpenMP where it works."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = True  # as many at a time as there are processors

    def build_extensions(self):
        kind = "msvc" if self.compiler.compiler_type == "msvc" else "unix"
        levels = ["baseline"]
        if kind == "unix":
            levels += [
                level for level, flags in TABLE["LEVELS"].items() if flags and self.links(PLAIN_PROGRAM, list(flags))
            ]
        print(f"rcnn: the kernels are compiled for {', '.join(levels)}")
        self.extensions = [extension for extension in self.extensions if extension.level in levels]
        compile_flags, link_flags = self.find_openmp(OPENMP[kind])
        for extension in self.extensions:
            extension.extra_compile_args = [*extension.rounding[kind], *extension.level_flags, *compile_flags]
            extension.extra_link_args = link_flags
            self.translate(extension)
        super().build_extensions()

    def translate(self, extension):
        """Turns the source into C, in a directory of its own: one source makes several modules.

        One after the other, for Cython does not run in several threads; C compilers do, and take most of the time.
        """
        extension.sources = cythonize(extension, build_dir=str(Path(self.build_temp, extension.name)))[0].sources

    def find_openmp(self, candidates):
        """The first of `candidates` with which a program that calls OpenMP compiles and links, else no flags."""
        for compile_flags, link_flags in candidates:
            if self.links(OPENMP_PROGRAM, compile_flags, link_flags):
                return compile_flags, link_flags
        print("rcnn: no OpenMP with this compiler; the kernels will run on one thread")
        return [], []

    def links(self, program, compile_flags, link_flags=()):
        """Whether a C program compiles and links with these flags."""
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "program.c")
            source.write_text(program)
            try:
                objects = self.compiler.compile([str(source)], directory, extra_postargs=compile_flags)
                self.compiler.link_executable(objects, str(source.with_suffix("")), extra_postargs=list(link_flags))
            except (CompileError, LinkError):
                return False
            return True


def kernel(name, rounding, level="baseline"):
    """A kernel for one level of processors; it may fail to build unless RCNN_REQUIRE_EXT=1."""
    extension = Extension(
        f"rcnn._ext.{name}" if level == "baseline" else f"rcnn._ext.{name}_{level}",
        [(SOURCES / f"{name}.pyx").as_posix()],
        depends=[path.as_posix() for path in sorted(SOURCES.glob("*.h"))],
        optional=os.environ.get("RCNN_REQUIRE_EXT") != "1",
    )
    extension.rounding, extension.level = ROUNDING[rounding], level
    extension.level_flags = [*TABLE["LEVELS"][level], *TABLE["EXTRA_FLAGS"].get((name, level), ())]
    return extension


def kernels():
    """Every kernel for every level that a compiler might know."""
    if os.environ.get("RCNN_NO_EXT") == "1":
        return []
    compiled = [kernel(*item, level) for item in TABLE["KERNELS"].items() for level in TABLE["LEVELS"]]
    return [kernel("_build", "exact"), *compiled]


class BuildPackage(build_py):
    """Puts the sources of the notebooks into the package, where `rcnn course export` finds them once installed."""

    def run(self):
        super().run()
        if not self.editable_mode:  # which reads them where they are
            target = Path(self.build_lib, "rcnn", "course", "src")
            self.mkpath(str(target))
            for source in sorted(NOTEBOOKS.glob("*.py")):
                self.copy_file(str(source), str(target / source.name))


setup(ext_modules=kernels(), cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage})
