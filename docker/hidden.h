/*
 * How the dynamic linker's variables are hidden from it and found again: by their first byte, in
 * place, so that /proc/self/environ is the container's again once they are put back. A variable whose
 * name begins with that byte by itself would be taken for one of ours; no shell can make one.
 */

#define SHOWN "LD_"
#define HIDDEN "\001D_"
