/*
 * How the dynamic linker's variables are hidden from it and found again: by their first byte, in
 * place, so that /proc/self/environ is the container's again once they are put back.
 */

#define SHOWN "LD_"
#define HIDDEN "\001D_"
