# Macros of adit's configure.ac.

# ADIT_MISSING(PACKAGES): notes Debian packages that have to be installed.
AC_DEFUN([ADIT_MISSING], [adit_packages="$adit_packages $1"])

# ADIT_REPORT_MISSING: fails, naming all packages noted so far, if there are any.
AC_DEFUN([ADIT_REPORT_MISSING], [
AS_IF([test -n "$adit_packages"], [
    adit_packages=`echo $adit_packages`
    AC_MSG_NOTICE([what adit needs is missing or too old. On Debian, contrib/setup installs all of it, or:])
    AC_MSG_NOTICE([    apt-get install $adit_packages])
    AC_MSG_NOTICE([(on Debian 12, ngtcp2 and nghttp3 are in the backports suite)])
    AC_MSG_ERROR([missing packages: $adit_packages])])
])

# ADIT_PKG(PREFIX, MODULE [>= VERSION], DEBIAN-PACKAGE): PREFIX_CFLAGS and PREFIX_LIBS, or one package more is missing.
AC_DEFUN([ADIT_PKG], [PKG_CHECK_MODULES([$1], [$2], [], [ADIT_MISSING([$3])])])

# ADIT_LANG_FLAG(C | C++, VARIABLE, FLAG, [required]): appends FLAG to VARIABLE if the compiler takes it silently.
AC_DEFUN([ADIT_LANG_FLAG], [
AC_LANG_PUSH([$1])
AC_MSG_CHECKING([whether _AC_LANG compiler accepts $3])
adit_save_[]_AC_LANG_PREFIX[]FLAGS=$[]_AC_LANG_PREFIX[]FLAGS
_AC_LANG_PREFIX[]FLAGS="$[]_AC_LANG_PREFIX[]FLAGS -Werror $3"
AC_LINK_IFELSE([AC_LANG_SOURCE([[int main(void) { return 0; }]])],
    [AC_MSG_RESULT([yes])
     $2="$[]$2 $3"],
    [AC_MSG_RESULT([no])
     m4_if([$4], [required], [AC_MSG_ERROR([the _AC_LANG compiler does not support $3])])])
_AC_LANG_PREFIX[]FLAGS=$adit_save_[]_AC_LANG_PREFIX[]FLAGS
AC_LANG_POP([$1])
])

# ADIT_LANG_FLAGS(C | C++, VARIABLE, FLAGS): appends those of the FLAGS that the compiler takes, by one probe when it
# takes them all.
AC_DEFUN([ADIT_LANG_FLAGS], [
AC_LANG_PUSH([$1])
AC_MSG_CHECKING([whether _AC_LANG compiler accepts $3])
adit_save_[]_AC_LANG_PREFIX[]FLAGS=$[]_AC_LANG_PREFIX[]FLAGS
adit_all=no
_AC_LANG_PREFIX[]FLAGS="$adit_save_[]_AC_LANG_PREFIX[]FLAGS -Werror $3"
AC_LINK_IFELSE([AC_LANG_SOURCE([[int main(void) { return 0; }]])], [adit_all=yes])
_AC_LANG_PREFIX[]FLAGS=$adit_save_[]_AC_LANG_PREFIX[]FLAGS
AC_MSG_RESULT([$adit_all])
AC_LANG_POP([$1])
AS_IF([test $adit_all = yes], [$2="$[]$2 $3"], [m4_foreach_w([flag], [$3], [ADIT_LANG_FLAG([$1], [$2], flag)])])
])

# ADIT_BOTH_FLAGS(FLAGS): for the C and the C++ compiler.
AC_DEFUN([ADIT_BOTH_FLAGS], [
ADIT_LANG_FLAGS([C], [ADIT_CFLAGS], [$1])
ADIT_LANG_FLAGS([C++], [ADIT_CXXFLAGS], [$1])
])

# ADIT_BOTH_FLAG_REQUIRED(FLAG): for the C and the C++ compiler; without it configure fails.
AC_DEFUN([ADIT_BOTH_FLAG_REQUIRED], [
ADIT_LANG_FLAG([C], [ADIT_CFLAGS], [$1], [required])
ADIT_LANG_FLAG([C++], [ADIT_CXXFLAGS], [$1], [required])
])

# ADIT_LINK_FLAG(FLAG): appends FLAG to ADIT_LDFLAGS if linking with it works.
AC_DEFUN([ADIT_LINK_FLAG], [
AC_MSG_CHECKING([whether the linker accepts $1])
adit_save_LDFLAGS=$LDFLAGS
adit_save_CFLAGS=$CFLAGS
LDFLAGS="$LDFLAGS $1"
CFLAGS="$CFLAGS $ADIT_CFLAGS"
AC_LINK_IFELSE([AC_LANG_SOURCE([[int main(void) { return 0; }]])],
    [AC_MSG_RESULT([yes])
     ADIT_LDFLAGS="$ADIT_LDFLAGS $1"],
    [AC_MSG_RESULT([no])])
LDFLAGS=$adit_save_LDFLAGS
CFLAGS=$adit_save_CFLAGS
])

# ADIT_FORTIFY: -D_FORTIFY_SOURCE=2 when the user's flags optimise; without optimisation it only warns.
AC_DEFUN([ADIT_FORTIFY], [
AC_MSG_CHECKING([whether the build is optimised])
AC_COMPILE_IFELSE([AC_LANG_SOURCE([[
#ifndef __OPTIMIZE__
#error "not optimised"
#endif
int unused;]])],
    [AC_MSG_RESULT([yes])
     ADIT_BOTH_FLAGS([-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2])],
    [AC_MSG_RESULT([no])])
])
