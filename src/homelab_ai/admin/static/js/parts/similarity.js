/**
 * How alike vectors are: cosines, and the pair that is most alike.
 */

/** The cosine of the angle between two vectors; 0 where one has no direction. */
function cosine(one, other) {
  let product = 0;
  let ones = 0;
  let others = 0;
  for (let index = 0; index < one.length; index += 1) {
    product += one[index] * other[index];
    ones += one[index] ** 2;
    others += other[index] ** 2;
  }
  const lengths = Math.sqrt(ones * others);
  return lengths ? product / lengths : 0;
}

/** The cosine of every two of the vectors, as rows. */
export function similarities(vectors) {
  return vectors.map((one) => vectors.map((other) => cosine(one, other)));
}

/** `{one, other, similarity}`, the first positions that are most alike; null where there are not two. */
export function mostAlike(rows) {
  let best = null;
  for (let one = 0; one < rows.length; one += 1) {
    for (let other = one + 1; other < rows.length; other += 1) {
      if (!best || rows[one][other] > best.similarity) best = { one, other, similarity: rows[one][other] };
    }
  }
  return best;
}
