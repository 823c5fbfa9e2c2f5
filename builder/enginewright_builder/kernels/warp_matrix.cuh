// What one warp does with matrices in shared memory on compute capability 8.0 and later: copies of 16 bytes on their way
// in, fragments of 8x8 matrices, products of 16x16 by 16x8. Stands behind latency.cuh. PTX ISA 9.0, sections "cp.async",
// "ldmatrix", "Matrix Fragments for mma.m16n8k16 with floating point type"; g is lane / 4 and t is lane % 4, as there.
#pragma once

// Sixteen bytes that arrive later, or at once as zeros, and then nothing is read.
DEVICE void copy16(u32 target, const void* source, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(exists ? 16 : 0) : "memory");
}

// This thread's copies since the last time are a group.
DEVICE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// All groups of this thread have arrived but for the newest PENDING ones.
template <int PENDING>
DEVICE void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four matrices of 8 rows of 16 bytes: row l % 8 of matrix l / 8 lies where lane l says. A lane gets of each matrix the
// elements 2 t and 2 t + 1 of row g.
DEVICE void load_matrices(u32 (&r)[4], u32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

// The same matrices; a lane gets of each the elements g of rows 2 t and 2 t + 1.
DEVICE void load_transposed(u32 (&r)[4], u32 row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(row)
               : "memory");
}

// d (16 x 8) += a (16 x 16) b (16 x 8). A lane holds
//     d  rows g (0, 1) and g + 8 (2, 3), columns 2 t and 2 t + 1
//     a  rows g (0, 2) and g + 8 (1, 3), columns 2 t, 2 t + 1 (0, 1) and 2 t + 8, 2 t + 9 (2, 3)
//     b  rows 2 t, 2 t + 1 (first) and 2 t + 8, 2 t + 9 (second), column g
DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 first, u32 second) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32." ELEMENT "." ELEMENT ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(first), "r"(second));
}
